import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/** Kafka Streams, exactly once: ticks decoded from Avro, filtered into one topic, one-minute bars into another. */
public final class Peer {
    /** A tick with the bytes it came as. */
    record Tick(byte[] bytes, double bid, double ask) {}

    /** Bid of one minute. */
    record Bar(double open, double high, double low, double close, long ticks) {
        Bar with(double bid) {
            return ticks == 0
                ? new Bar(bid, bid, bid, bid, 1)
                : new Bar(open, Math.max(high, bid), Math.min(low, bid), bid, ticks + 1);
        }
    }

    private static final ThreadLocal<Decoder> DECODER = ThreadLocal.withInitial(Decoder::new);
    private static final int SCHEMA_ID = Integer.parseInt(env("SCHEMA_ID"));

    private static final class Decoder {
        private final GenericDatumReader<GenericRecord> reader =
            new GenericDatumReader<>(new Schema.Parser().parse(env("SCHEMA")));
        private BinaryDecoder decoder;
        private GenericRecord record;

        /** The tick, or null for a record of another type. */
        Tick decode(byte[] bytes) {
            if (ByteBuffer.wrap(bytes).getInt(1) != SCHEMA_ID) {
                return null;
            }
            try {
                decoder = DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoder);
                record = reader.read(record, decoder);
            } catch (java.io.IOException error) {
                return null;
            }
            return new Tick(bytes, (double) record.get("bid"), (double) record.get("ask"));
        }
    }

    private static Serde<Bar> bars() {
        return Serdes.serdeFrom(
            (topic, bar) -> bar == null ? null : ByteBuffer.allocate(40).putDouble(bar.open()).putDouble(bar.high())
                .putDouble(bar.low()).putDouble(bar.close()).putLong(bar.ticks()).array(),
            (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                ByteBuffer in = ByteBuffer.wrap(bytes);
                return new Bar(in.getDouble(), in.getDouble(), in.getDouble(), in.getDouble(), in.getLong());
            });
    }

    private static String env(String name) {
        return System.getenv(name);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, env("GROUP"));
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, env("BOOTSTRAP"));
        config.put(StreamsConfig.STATE_DIR_CONFIG, env("STATE"));
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(env("THREADS")));
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        config.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], Tick> clean = builder
            .stream(env("RAW"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .mapValues(bytes -> DECODER.get().decode(bytes))
            .filter((symbol, tick) -> tick != null && tick.bid() > 0 && tick.ask() >= tick.bid());
        clean.mapValues(Tick::bytes).to(env("CLEAN"), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        clean
            .mapValues(Tick::bid)
            .groupByKey(Grouped.with(Serdes.ByteArray(), Serdes.Double()))
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofSeconds(5)))
            .aggregate(
                () -> new Bar(0, 0, 0, 0, 0),
                (symbol, bid, bar) -> bar.with(bid),
                Materialized.<byte[], Bar, WindowStore<Bytes, byte[]>>with(Serdes.ByteArray(), bars())
                    .withRetention(Duration.ofDays(1))) // by default each minute is a database of its own
            .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
            .toStream((window, bar) -> window.key())
            .to(env("BARS"), Produced.with(Serdes.ByteArray(), bars()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(10));
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }
}
