// A TypeScript worker that takes one job which somebody else has added.
const { Worker } = require('bullmq');

const asked = JSON.parse(process.argv[2]);
const connection = { host: '127.0.0.1', port: asked.port };
const worker = new Worker(
  asked.queue,
  async (job) => {
    await job.updateProgress({ half: true });
    return { name: job.name, data: job.data, attempts: job.opts.attempts };
  },
  { connection },
);
worker.on('completed', async (_, result) => {
  console.log(JSON.stringify(result));
  await worker.close();
  process.exit(0);
});
