import json, logging, os, random, signal, sys, time

seen = []


def handler(event, context):
    case = event["case"]
    if case == "allow":
        return {"allowProvisioning": True}
    if case == "deny":
        return {"allowProvisioning": False}
    if case == "override":
        return {"allowProvisioning": True, "parameterOverrides": {"Room": event["room"]}}
    if case == "text":
        return "yes"
    if case == "sleep":
        time.sleep(event["seconds"])
        return {}
    if case == "loop":
        while True:
            pass
    if case == "exit":
        os._exit(3)
    if case == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if case == "raise":
        raise ValueError("boom")
    if case == "unserialisable":
        return {1, 2}
    if case == "huge":
        return "x" * (7 << 20)
    if case == "log":
        for i in range(event["lines"]):
            print("line %06d of a long story" % i)
        return {}
    if case == "logging":
        logging.getLogger().setLevel(logging.INFO)
        logging.info("an info")
        return {}
    if case == "count":
        seen.append(1)
        return len(seen)
    if case == "random":
        return random.random()
    if case == "context":
        return {
            "id": context.aws_request_id, "name": context.function_name, "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
            "left": 0 < context.get_remaining_time_in_millis() <= 50000, "region": os.environ["AWS_REGION"], "own": os.environ["OWN"],
            "version": context.function_version, "root": os.environ["LAMBDA_TASK_ROOT"],
        }
    if case == "closed":
        os.close(1), os.close(2)
        return {"allowProvisioning": True}
    raise KeyError(case)
