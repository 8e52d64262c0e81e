// Runs module.function of /var/task for an event of the Lambda Runtime API, which speaks HTTP on descriptor 3. With "reuse" it goes on with
// the next event, as AWS does; else the server ends this process, and a new one has loaded the code meanwhile.
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const env = process.env, api = new Socket({ fd: 3 }), reuse = process.argv[2] === 'reuse';
let buffer = Buffer.alloc(0), waiting = null, answered = null;

api.on('close', () => process.exit(0)); // the server is gone
api.on('error', () => process.exit(0));
api.on('data', (data) => {
  buffer = Buffer.concat([buffer, data]);
  const end = buffer.indexOf('\r\n\r\n');
  if (end < 0 || !waiting) return;
  const head = Object.fromEntries(buffer.toString('latin1', 0, end).split('\r\n').slice(1).map((line) => {
    const at = line.indexOf(':');
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
  }));
  const size = end + 4 + Number(head['content-length'] ?? 0);
  if (buffer.length < size) return;
  const body = buffer.subarray(end + 4, size), done = waiting;
  buffer = buffer.subarray(size);
  waiting = null;
  done({ head, body });
});

function call(method, path, body = '') {
  return new Promise((resolve) => {
    waiting = resolve;
    api.ref();
    api.write(`${method} /2018-06-01/runtime/${path} HTTP/1.1\r\nHost: runtime\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  });
}

function failure(error, kind) {
  const e = error instanceof Error ? error : { name: typeof error, message: String(error), stack: '' };
  const report = { errorType: kind ?? e.name, errorMessage: e.message, trace: String(e.stack ?? '').split('\n') };
  console.error(`Invoke Error\t${JSON.stringify(report)}`);
  return JSON.stringify(report);
}

class Failure extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

async function load(handler) {
  const at = handler.lastIndexOf('/') + 1, dot = handler.indexOf('.', at);
  if (dot <= at || dot === handler.length - 1 || handler.includes('..')) throw new Failure('Runtime.MalformedHandlerName', 'Bad handler');
  const file = join(env.LAMBDA_TASK_ROOT, handler.slice(0, dot)), names = handler.slice(dot + 1).split('.');
  const found = ['', '.js', '.mjs', '.cjs'].map((end) => file + end).find((path) => existsSync(path));
  if (!found) throw new Failure('Runtime.ImportModuleError', `Error: Cannot find module '${handler.slice(0, dot)}'`);
  let module;
  try {
    module = await import(pathToFileURL(found).href);
  } catch (e) {
    if (e instanceof SyntaxError) throw new Failure('Runtime.UserCodeSyntaxError', `SyntaxError: ${e.message}`);
    if (e?.code === 'ERR_MODULE_NOT_FOUND' || e?.code === 'MODULE_NOT_FOUND') throw new Failure('Runtime.ImportModuleError', `Error: ${e.message}`);
    throw e;
  }
  const get = (from) => names.reduce((o, name) => o?.[name], from);
  const f = get(module) ?? get(module.default);
  if (f === undefined) throw new Failure('Runtime.HandlerNotFound', `${handler} is undefined or not exported`);
  if (typeof f !== 'function') throw new Failure('Runtime.HandlerNotFound', `${handler} is not a function`);
  return f;
}

function context(head, finish) {
  const deadline = Number(head['lambda-runtime-deadline-ms']);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    awsRequestId: head['lambda-runtime-aws-request-id'],
    invokedFunctionArn: head['lambda-runtime-invoked-function-arn'],
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    done: (error, result) => finish(error, result),
    succeed: (result) => finish(null, result),
    fail: (error) => finish(error ?? new Error('fail')),
  };
}

function marshal(result) {
  try {
    return ['response', JSON.stringify(result) ?? 'null'];
  } catch (e) {
    return ['error', failure(new Failure('Runtime.MarshalError', `Unable to stringify response body: ${e.message}`))];
  }
}

// handle resolves to the answer: at once when the handler is done, or for a callback when nothing else is left to do.
function handle(handler, head, body) {
  return new Promise((resolve) => {
    const finish = (error, result) => resolve(error == null ? marshal(result) : ['error', failure(error)]);
    answered = resolve;
    let waits = () => finish(null, null); // nothing will ever call back
    const c = context(head, finish);
    const callback = (error, result) => {
      if (c.callbackWaitsForEmptyEventLoop) waits = () => finish(error, result);
      else finish(error, result);
    };
    process.removeAllListeners('beforeExit');
    process.once('beforeExit', () => waits());
    env._X_AMZN_TRACE_ID = head['lambda-runtime-trace-id'] ?? '';
    api.unref();
    try {
      const promise = handler(JSON.parse(body.toString()), c, callback);
      if (typeof promise?.then === 'function') promise.then((result) => finish(null, result), (error) => finish(error ?? new Error('rejected')));
      else if (promise !== undefined && handler.length < 3) finish(null, promise);
    } catch (e) {
      finish(e);
    }
  });
}

for (const [event, kind] of [['uncaughtException', undefined], ['unhandledRejection', 'Runtime.UnhandledPromiseRejection']]) {
  process.on(event, (e) => {
    if (answered) answered(['error', failure(e, kind)]);
    else call('POST', 'init/error', failure(e, kind)).then(() => process.exit(1));
  });
}

// written waits until what the handler has printed is out: a pipe that is full makes it wait in this process.
function written(stream) {
  return stream.writableLength ? new Promise((done) => stream.once('drain', done).once('close', done).once('error', done)) : null;
}

let handler;
try {
  handler = await load(env._HANDLER ?? '');
} catch (e) {
  await call('POST', 'init/error', failure(e));
  process.exit(1);
}
do {
  const { head, body } = await call('GET', 'invocation/next');
  const [kind, answer] = await handle(handler, head, body);
  answered = null;
  await written(process.stdout);
  await written(process.stderr);
  await call('POST', `invocation/${head['lambda-runtime-aws-request-id']}/${kind}`, answer);
} while (reuse);
