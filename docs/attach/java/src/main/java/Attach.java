import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints a world's ticks and bars, with kafka-clients and Avro and nothing of Arbitrex.
 *
 * <pre>
 * mvn -q compile dependency:copy-dependencies
 * java -cp 'target/classes:target/dependency/*' Attach 127.0.0.1:9092 http://127.0.0.1:8081 main [COUNT]
 * </pre>
 */
public final class Attach {
  private static final DateTimeFormatter ISO =
      DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);
  private static final ObjectMapper JSON = new ObjectMapper();

  private final HttpClient http = HttpClient.newHttpClient();
  private final Map<Integer, Schema> schemas = new HashMap<>();
  private final String registry;

  private Attach(String registry) {
    this.registry = registry;
  }

  public static void main(String[] args) throws IOException, InterruptedException {
    Attach attach = new Attach(args[1]);
    long left = args.length > 3 ? Long.parseLong(args[3]) : -1;
    Map<String, Object> config =
        Map.of(
            "bootstrap.servers", args[0],
            "group.id", "attach-java",
            "auto.offset.reset", "earliest",
            "isolation.level", "read_committed", // not the default of this client
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class);
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config)) {
      consumer.subscribe(List.of(args[2] + ".ticks.clean", args[2] + ".bars"));
      while (left != 0) {
        for (ConsumerRecord<byte[], byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
          if (left == 0 || message.value() == null) { // null: a bar that was deleted
            continue;
          }
          System.out.println(line(message.topic(), attach.decode(message.value())));
          left--;
        }
      }
    }
  }

  private static String line(String topic, GenericRecord record) {
    if (topic.endsWith(".bars")) {
      return String.join(
          " ",
          topic, text(record, "symbol"), text(record, "timeframe"), iso(record, "ts_open"), text(record, "open"),
          text(record, "high"), text(record, "low"), text(record, "close"), text(record, "status"),
          text(record, "revision"));
    }
    return String.join(
        " ", topic, text(record, "symbol"), iso(record, "ts_event"), text(record, "bid"), text(record, "ask"));
  }

  private static String text(GenericRecord record, String field) {
    return record.get(field).toString();
  }

  private static String iso(GenericRecord record, String field) {
    return ISO.format(Instant.ofEpochMilli((Long) record.get(field)));
  }

  /** Confluent's wire format: a zero byte, the id of the writer's schema, the datum. */
  private GenericRecord decode(byte[] value) throws IOException, InterruptedException {
    ByteBuffer buffer = ByteBuffer.wrap(value);
    if (buffer.get() != 0) {
      throw new IOException("not in Confluent's wire format");
    }
    Schema schema = schema(buffer.getInt());
    var datum = DecoderFactory.get().binaryDecoder(value, buffer.position(), buffer.remaining(), null);
    return new GenericDatumReader<GenericRecord>(schema).read(null, datum);
  }

  /** The writer's schema, asked for once. */
  private Schema schema(int id) throws IOException, InterruptedException {
    Schema known = schemas.get(id);
    if (known == null) {
      URI place = URI.create(registry + "/schemas/ids/" + id);
      var answer = http.send(HttpRequest.newBuilder(place).build(), BodyHandlers.ofString());
      if (answer.statusCode() != 200) {
        throw new IOException("the registry says: " + answer.body());
      }
      known = new Schema.Parser().parse(JSON.readTree(answer.body()).get("schema").asText());
      schemas.put(id, known);
    }
    return known;
  }
}
