const seen = [];

exports.handler = async (event, context) => {
  switch (event.case) {
    case 'allow': return { allowProvisioning: true };
    case 'deny': return { allowProvisioning: false };
    case 'override': return { allowProvisioning: true, parameterOverrides: { Room: event.room } };
    case 'text': return 'yes';
    case 'sleep': await new Promise((done) => setTimeout(done, event.seconds * 1000)); return {};
    case 'loop': for (;;);
    case 'exit': process.exit(3);
    case 'crash': process.abort();
    case 'raise': throw new RangeError('boom');
    case 'unserialisable': { const o = {}; o.o = o; return o; }
    case 'huge': return 'x'.repeat(7 << 20);
    case 'log': for (let i = 0; i < event.lines; i++) console.log(`line ${String(i).padStart(6, '0')} of a long story`); return {};
    case 'count': seen.push(1); return seen.length;
    case 'context': return {
      id: context.awsRequestId, name: context.functionName, arn: context.invokedFunctionArn, memory: context.memoryLimitInMB,
      left: context.getRemainingTimeInMillis() > 0 && context.getRemainingTimeInMillis() <= 50000, region: process.env.AWS_REGION, own: process.env.OWN,
      version: context.functionVersion, root: process.env.LAMBDA_TASK_ROOT,
    };
    case 'closed': require('fs').closeSync(1); require('fs').closeSync(2); return { allowProvisioning: true };
    case 'rejected later': Promise.reject(new Error('later')); return new Promise(() => {});
    case 'nothing to do': return new Promise(() => {});
  }
};

exports.callback = (event, context, callback) => setTimeout(() => callback(null, { called: event.case }), 10);
exports.callbackError = (event, context, callback) => callback(new TypeError('said'));
exports.early = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  setInterval(() => {}, 1000);
  callback(null, 'early');
};
exports.deep = { down: { handler: async () => 'deep' } };
exports.number = 1;
