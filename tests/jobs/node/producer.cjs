// A TypeScript platform's side, with its own BullMQ: adds jobs and reports what became of them.
const { Queue, QueueEvents } = require('bullmq');

const asked = JSON.parse(process.argv[2]);
const connection = { host: '127.0.0.1', port: asked.port };
const defaultJobOptions = { attempts: 3, backoff: { type: 'exponential', delay: 200 } };
const open = [];

async function on(queueName) {
  const queue = new Queue(queueName, { connection, defaultJobOptions });
  const events = new QueueEvents(queueName, { connection });
  await events.waitUntilReady();
  open.push(queue, events);
  return { queue, events };
}

async function ended(job, events) {
  try {
    return { result: await job.waitUntilFinished(events, 20000) };
  } catch (error) {
    return { error: error.message };
  }
}

async function main() {
  const told = {};
  const { tenantId, negotiationId, orderId } = asked;
  const items = [{ sku: 'A', productId: asked.productId, quantity: 2, unitOfMeasure: 'BUC' }];

  const create = await on('stock-reserve-create');
  const data = { tenantId, negotiationId, items, reservationType: 'SOFT', expiresInHours: 72 };
  const first = await create.queue.add('stock:reserve:create', data);
  told.create = await ended(first, create.events);
  const before = Date.now();
  const late = await create.queue.add('stock:reserve:create', data, { delay: 1000 });
  told.delayed = await ended(late, create.events);
  told.delayedMs = Date.now() - before;
  const gone = await create.queue.add('stock:reserve:create', data, { delay: 60000, jobId: 'gone' });
  await gone.remove();
  told.removed = (await create.queue.getJob('gone')) === undefined;
  const twice = [];
  for (let n = 0; n < 2; n++) {
    twice.push(await create.queue.add('stock:reserve:create', data, { jobId: 'res-once' }));
  }
  told.once = await ended(twice[0], create.events);
  told.sameId = twice[0].id === twice[1].id;
  told.bad = await ended(await create.queue.add('stock:reserve:create', { tenantId }), create.events);

  const release = await on('stock-reserve-release');
  const reservationId = told.create.result.reservationId;
  const back = { tenantId, reservationId, reason: 'CANCELLED' };
  told.release = await ended(await release.queue.add('stock:reserve:release', back), release.events);

  for (const name of ['stock:reserve:order', 'stock:deduct:delivered', 'stock:release:order']) {
    const of = await on(name.replaceAll(':', '-'));
    const progress = [];
    of.events.on('progress', ({ data: value }) => progress.push(value));
    const job = await of.queue.add(name, { tenantId, orderId });
    told[name] = { ...(await ended(job, of.events)), progress };
    told[name].attempts = (await of.queue.getJob(job.id)).attemptsMade;
  }

  for (const each of open) await each.close();
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
