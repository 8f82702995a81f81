// Prints a world's ticks and bars, with stock npm packages and nothing of Arbitrex.
// npm ci && node attach.js 127.0.0.1:9092 http://127.0.0.1:8081 main [COUNT]

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const { SchemaRegistry } = require('@kafkajs/confluent-schema-registry')
const lz4 = require('lz4js')

// kafkajs comes without LZ4, which the topics are compressed with
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})

const iso = (ms) => new Date(ms).toISOString()

function line(topic, record) {
  if (topic.endsWith('.bars')) {
    const { symbol, timeframe, open, high, low, close, status, revision } = record
    return [topic, symbol, timeframe, iso(record.ts_open), open, high, low, close, status, revision].join(' ')
  }
  return [topic, record.symbol, iso(record.ts_event), record.bid, record.ask].join(' ')
}

async function main([brokers, host, world, count = '-1']) {
  const kafka = new Kafka({ brokers: brokers.split(','), logLevel: logLevel.ERROR })
  const registry = new SchemaRegistry({ host })
  const consumer = kafka.consumer({ groupId: 'attach-node', readUncommitted: false }) // false is the default
  await consumer.connect()
  await consumer.subscribe({ topics: [`${world}.ticks.clean`, `${world}.bars`], fromBeginning: true })
  let left = Number(count)
  await new Promise((resolve, reject) => {
    consumer.run({
      eachMessage: async ({ topic, message }) => {
        if (left === 0 || message.value === null) return // null: a bar that was deleted
        try {
          console.log(line(topic, await registry.decode(message.value)))
          if (--left === 0) resolve()
        } catch (error) {
          reject(error)
        }
      },
    })
  })
  await consumer.disconnect()
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
