# Runs module.function of /var/task for each event of the Lambda Runtime API, which speaks HTTP on descriptor 3. Each event is handled by a
# fork of this process, so that nothing a handler keeps in memory reaches the next event. A module with threads or children cannot be
# forked: it answers one event and is replaced. With "reuse" every event is handled here, as AWS does.
import importlib, json, logging, os, shutil, signal, sys, time, traceback

API, LIMIT, ENV = os.fdopen(3, "r+b", 0), 6 << 20, os.environ
LINES = os.fdopen(os.dup(3), "rb")
for fd in (3, LINES.fileno()):
    os.set_inheritable(fd, False)
sys.stdout.reconfigure(line_buffering=True)


def call(method, path, body=b"", *headers):
    head = [method + " /2018-06-01/runtime/" + path + " HTTP/1.1", "Host: runtime", "Content-Length: %d" % len(body)]
    message = memoryview("\r\n".join(head + list(headers) + ["", ""]).encode() + body)
    while message:
        message = message[API.write(message):]
    if not LINES.readline():
        os._exit(0)  # the server is gone
    answer = {}
    for line in iter(LINES.readline, b"\r\n"):
        name, _, value = line.decode().partition(":")
        answer[name.lower()] = value.strip()
    return answer, LINES.read(int(answer.get("content-length", 0)))


class Context:
    function_name, function_version = ENV["AWS_LAMBDA_FUNCTION_NAME"], ENV["AWS_LAMBDA_FUNCTION_VERSION"]
    memory_limit_in_mb = ENV["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    log_group_name, log_stream_name = ENV["AWS_LAMBDA_LOG_GROUP_NAME"], ENV["AWS_LAMBDA_LOG_STREAM_NAME"]
    identity = client_context = None

    def __init__(self, head):
        self.aws_request_id, self.invoked_function_arn = head["lambda-runtime-aws-request-id"], head["lambda-runtime-invoked-function-arn"]
        self._deadline = int(head["lambda-runtime-deadline-ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))


class Logs(logging.Handler):  # as AWS's: to stdout, with the request's id
    request = ""

    def emit(self, record):
        record.aws_request_id = Logs.request
        sys.stdout.write(self.format(record) + "\n")


def failure(kind, message, trace=()):
    print("[ERROR] %s: %s%s" % (kind, message, "".join(["\nTraceback (most recent call last):\n", *trace]) if trace else ""))
    return b"E" + json.dumps({"errorMessage": message, "errorType": kind, "requestId": Logs.request, "stackTrace": list(trace)}).encode()


def load(handler):
    name, dot, function = handler.rpartition(".")
    if not dot or not name or not function:
        return None, failure("Runtime.MalformedHandlerName", "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler)
    try:
        return getattr(importlib.import_module(name.replace("/", ".")), function), None
    except AttributeError as e:
        if name.replace("/", ".") in sys.modules and function in str(e):
            return None, failure("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function, name))
        return None, failure("AttributeError", str(e), traceback.format_tb(e.__traceback__)[1:])
    except ImportError as e:
        return None, failure("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (name, e))
    except SyntaxError as e:
        return None, failure("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (name, e))
    except Exception as e:
        return None, failure(type(e).__name__, str(e), traceback.format_tb(e.__traceback__)[1:])


def handle(function, head, event):
    Logs.request = head["lambda-runtime-aws-request-id"]
    ENV["_X_AMZN_TRACE_ID"] = head.get("lambda-runtime-trace-id", "")
    try:
        result = function(json.loads(event), Context(head))
    except Exception as e:
        return failure(type(e).__name__, str(e), traceback.format_tb(e.__traceback__)[1:])
    try:
        return b"R" + json.dumps(result).encode()
    except Exception as e:
        return failure("Runtime.MarshalError", "Unable to marshal response: %s" % e)


def alone():  # neither threads nor children, which a fork would lose
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:
        threads = sys.modules["threading"].active_count() if "threading" in sys.modules else 1
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return threads == 1
    return False


def forked(function, head, event):
    r, w = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            API.close(), LINES.close(), os.close(r)
            for name, module in list(sys.modules.items()):
                if name in ("random", "numpy.random") and hasattr(module, "seed"):
                    module.seed()
            out = handle(function, head, event)[:LIMIT + 2]
            out = memoryview(b"%8d" % len(out) + out)
            while out:
                out = out[os.write(w, out):]
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush(), sys.stderr.flush()
            finally:
                os._exit(code & 255 if code is not None else 0)
    os.close(w)
    with os.fdopen(r, "rb") as pipe:  # not to its end: a process that the handler left behind may hold the other side
        result = pipe.read(int(pipe.read(8) or 0))
    status = os.waitpid(child, 0)[1]
    return result if result and status == 0 else ended(status)


def ended(status):
    if os.WIFSIGNALED(status):
        reason = "with error: signal: " + signal.strsignal(os.WTERMSIG(status)).lower()
    elif status:
        reason = "with error: exit status %d" % os.WEXITSTATUS(status)
    else:
        reason = "without providing a reason"
    return b"E" + json.dumps({"errorType": "Runtime.ExitError", "errorMessage": "RequestId: %s Error: Runtime exited %s" % (Logs.request, reason)}).encode()


def swept(keep):  # ends processes and removes files that an event has left behind
    if os.getpid() == 1:  # of the sandbox
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
    for name in set(os.listdir(ENV["TMPDIR"])) - keep:
        path = os.path.join(ENV["TMPDIR"], name)
        try:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        except OSError:
            return False
    return True


def main():
    sys.path.insert(0, ENV["LAMBDA_TASK_ROOT"])
    logs = Logs()
    logs.setFormatter(logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"))
    logs.formatter.converter = time.gmtime
    logging.getLogger().addHandler(logs)
    function, broken = load(ENV["_HANDLER"])
    if broken:
        sys.stdout.flush()
        call("POST", "init/error", broken[1:])
        sys.exit(1)
    reuse = sys.argv[1:] == ["reuse"]
    forks = not reuse and alone()
    keep = set(os.listdir(ENV["TMPDIR"]))
    while True:
        head, event = call("GET", "invocation/next", b"", *(["Imprint-Worker: forks"] if forks else []))
        Logs.request = head["lambda-runtime-aws-request-id"]
        result = (forked if forks else handle)(function, head, event)
        sys.stdout.flush(), sys.stderr.flush()
        clean = not forks or swept(keep)
        call("POST", "invocation/" + head["lambda-runtime-aws-request-id"] + ("/response" if result[:1] == b"R" else "/error"), result[1:])
        if not clean:
            break  # another process takes over


main()
