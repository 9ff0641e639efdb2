// Claims a username through Kafka, and waits for the outcome.
//
//     node claim.js claim NAME OWNER [REQUEST_ID]   prints the outcome; exit code 0: accepted, 3: rejected, 4: not known
//     node claim.js vectors FILE                    compares keys and partitions with those that dibs computes
//
// DIBS_KAFKA_BROKERS says where Kafka is, DIBS_KAFKA_TOPIC_PREFIX what the topics' names begin with. The client is
// @confluentinc/kafka-javascript where that is installed, else kafkajs.
'use strict';
const { createHmac, randomUUID } = require('node:crypto');
const { readFileSync } = require('node:fs');

const brokers = (process.env.DIBS_KAFKA_BROKERS || 'localhost:9092').split(',');
const prefix = process.env.DIBS_KAFKA_TOPIC_PREFIX || '';
const claims = prefix + 'claims';
const registrations = prefix + 'registrations';
const wait = 30_000; // milliseconds

// <key>
// The key of a name in the space username: ASCII, compared in lower case.
function username(name) {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]$/.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} is no name: 3 to 32 letters, digits and . _ -, the first and last no punctuation`);
  }
  return name.toLowerCase();
}

// Where the Java client puts a key. The producers below do so by themselves.
function partitionOf(recordKey, partitions) {
  return (murmur2(Buffer.from(recordKey)) & 0x7fffffff) % partitions;
}

function murmur2(data) {
  const m = 0x5bd1e995;
  const whole = data.length & ~3;
  let h = 0x9747b28c ^ data.length;
  for (let i = 0; i < whole; i += 4) {
    let k = Math.imul(data.readInt32LE(i), m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  if (whole < data.length) {
    h = Math.imul(h ^ data.readUIntLE(whole, data.length - whole), m);
  }
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}
// </key>

// The key of a value, or of several together, in a private space.
function privateKey(pepper, version, space, ...values) {
  const hash = createHmac('sha256', pepper);
  for (const part of ['key', space, ...values].map((s) => Buffer.from(s))) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    hash.update(length).update(part);
  }
  return `h${version}:${hash.digest('hex')}`;
}

// The canonical form of an address: only what is behind the @ is the same in capitals.
function email(address) {
  const [local, domain] = address.split('@');
  return `${local}@${domain.toLowerCase()}`;
}

// <clients>
// Both put a key where the Java client puts it, and have the same calls; how they are set up differs.
function clients(group) {
  try {
    const { Kafka, logLevel } = require('@confluentinc/kafka-javascript').KafkaJS;
    const kafka = new Kafka({ kafkaJS: { brokers, logLevel: logLevel.ERROR } });
    return {
      admin: kafka.admin(),
      producer: kafka.producer({ partitioner: 'murmur2_random', acks: -1, 'enable.idempotence': true, 'linger.ms': 0 }),
      consumer: kafka.consumer({ 'group.id': group, 'enable.auto.commit': false }),
      options: {},
    };
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
  }
  const { Kafka, Partitioners, logLevel } = require('kafkajs');
  const kafka = new Kafka({ brokers, logLevel: logLevel.ERROR });
  return {
    admin: kafka.admin(),
    producer: kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, idempotent: true }), // so acks are of all
    consumer: kafka.consumer({ groupId: group }),
    options: { autoCommit: false },
  };
}
// </clients>

// <claim>
async function claim(name, owner, requestId) {
  const key = 'username/' + username(name);
  const { admin, producer, consumer, options } = clients('claim-' + requestId); // of our own: each waiter reads all outcomes
  try {
    // Where the outcomes end now, before asking. The one we wait for comes behind that.
    await admin.connect();
    const ends = await admin.fetchTopicOffsets(registrations);
    await consumer.connect();
    await consumer.subscribe({ topics: [registrations] });
    let answered;
    const answer = new Promise((resolve) => { answered = resolve; });
    const eachMessage = async ({ message }) => {
      const outcome = JSON.parse(message.value);
      if (outcome.request_id === requestId) answered(outcome); // a fact has a cause instead
    };
    await consumer.run({ ...options, eachMessage });
    for (const { partition, high } of ends) consumer.seek({ topic: registrations, partition, offset: high });

    await producer.connect();
    await producer.send({
      topic: claims,
      messages: [{
        key,
        value: JSON.stringify({ space: 'username', name, owner, mode: 'register' }),
        headers: {
          'content-type': 'application/json', ce_specversion: '1.0', ce_id: requestId,
          ce_type: 'dibs.UsernameClaimed.v1', ce_source: 'claim.js',
        },
      }],
    });
    return await within(wait, answer);
  } finally {
    await Promise.allSettled([admin.disconnect(), producer.disconnect(), consumer.disconnect()]);
  }
}

function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('not decided in time')), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
// </claim>

// Computes what each line says by itself, where it can.
function vectors(path) {
  const pepper = Buffer.from(Array.from({ length: 32 }, (_, i) => i)); // the published one, for tests only
  const compute = {
    username: (v) => username(v.name),
    email: (v) => privateKey(pepper, 1, 'email', email(v.name)),
    member: (v) => privateKey(pepper, 1, 'member', username(v.fields.tenant), email(v.fields.email)),
  };
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
  let keys = 0;
  let wrong = 0;
  for (const v of lines) {
    const key = compute[v.space] ? compute[v.space](v) : v.key;
    keys += compute[v.space] ? 1 : 0;
    const recordKey = `${v.space}/${key}`;
    const partition = partitionOf(recordKey, v.partitions);
    if (key !== v.key || recordKey !== v.record_key || partition !== v.partition) {
      wrong++;
      console.error(v, `key ${key}, partition ${partition}`);
    }
  }
  console.log(`${lines.length} partitions and ${keys} keys computed, ${wrong} differ`);
  return wrong === 0 ? 0 : 1;
}

async function main([mode, ...args]) {
  if (mode === 'vectors' && args.length === 1) return vectors(args[0]);
  if (mode !== 'claim' || args.length < 2 || args.length > 3) {
    console.error('claim.js claim NAME OWNER [REQUEST_ID] | vectors FILE');
    return 2;
  }
  const [name, owner, requestId = randomUUID()] = args;
  try {
    const outcome = await claim(name, owner, requestId);
    console.log(JSON.stringify(outcome));
    return outcome.outcome === 'Accepted' ? 0 : 3;
  } catch (error) {
    if (error instanceof RangeError) {
      console.error(error.message);
      return 3;
    }
    console.error(`${error.message}; the same again: claim ${name} ${owner} ${requestId}`);
    return 4;
  }
}

main(process.argv.slice(2)).then((code) => process.exit(code));
