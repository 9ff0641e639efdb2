import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.time.Instant;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Utils;

/**
 * Claims a username through Kafka with kafka-clients, and waits for the outcome.
 *
 * <pre>
 * java -cp 'target/dependency/*' Claim.java claim NAME OWNER [REQUEST_ID]   prints the outcome;
 *                                                      exit code 0: accepted, 3: rejected, 4: not known
 * java -cp 'target/dependency/*' Claim.java vectors FILE   compares keys and partitions with those that dibs computes
 * </pre>
 *
 * DIBS_KAFKA_BROKERS says where Kafka is, DIBS_KAFKA_TOPIC_PREFIX what the topics' names begin with.
 */
public class Claim {
    static final String BROKERS = System.getenv().getOrDefault("DIBS_KAFKA_BROKERS", "localhost:9092");
    static final String PREFIX = System.getenv().getOrDefault("DIBS_KAFKA_TOPIC_PREFIX", "");
    static final String CLAIMS = PREFIX + "claims", REGISTRATIONS = PREFIX + "registrations";
    static final Duration WAIT = Duration.ofSeconds(30);
    static final ObjectMapper JSON = new ObjectMapper();

    // <key>
    /** The key of a name in the space username: ASCII, compared in lower case. */
    static String username(String name) {
        if (!name.matches("[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]")) {
            throw new IllegalArgumentException(
                "\"" + name + "\" is no name: 3 to 32 letters, digits and . _ -, the first and last no punctuation");
        }
        return name.toLowerCase(Locale.ROOT); // not that of a Turkish server
    }

    /** Where the producer puts a key by itself. */
    static int partitionOf(String recordKey, int partitions) {
        return Utils.toPositive(Utils.murmur2(recordKey.getBytes(StandardCharsets.UTF_8))) % partitions;
    }
    // </key>

    /** The key of a value, or of several together, in a private space. */
    static String privateKey(byte[] pepper, int version, String space, String... values)
            throws GeneralSecurityException, IOException {
        var bytes = new ByteArrayOutputStream();
        var text = new DataOutputStream(bytes);
        for (String part : Stream.concat(Stream.of("key", space), Stream.of(values)).toList()) {
            byte[] utf8 = part.getBytes(StandardCharsets.UTF_8);
            text.writeInt(utf8.length); // big-endian
            text.write(utf8);
        }
        Mac hmac = Mac.getInstance("HmacSHA256");
        hmac.init(new SecretKeySpec(pepper, "HmacSHA256"));
        return "h" + version + ":" + HexFormat.of().formatHex(hmac.doFinal(bytes.toByteArray()));
    }

    /** The canonical form of an address: only what is behind the @ is the same in capitals. */
    static String email(String address) {
        int at = address.indexOf('@');
        return address.substring(0, at) + address.substring(at).toLowerCase(Locale.ROOT);
    }

    // <claim>
    static JsonNode claim(String name, String owner, String requestId) throws Exception {
        String key = "username/" + username(name);
        try (var outcomes = new KafkaConsumer<>(
                Map.<String, Object>of("bootstrap.servers", BROKERS, "enable.auto.commit", false),
                new StringDeserializer(), new StringDeserializer())) {
            // Where the outcomes end now, before asking. The one we wait for comes behind that.
            List<TopicPartition> partitions = outcomes.partitionsFor(REGISTRATIONS).stream()
                .map(p -> new TopicPartition(p.topic(), p.partition())).toList();
            outcomes.assign(partitions);
            outcomes.endOffsets(partitions).forEach(outcomes::seek);

            send(key, JSON.createObjectNode()
                .put("space", "username").put("name", name).put("owner", owner).put("mode", "register"), requestId);

            for (Instant deadline = Instant.now().plus(WAIT); Instant.now().isBefore(deadline); ) {
                for (var message : outcomes.poll(Duration.ofMillis(500))) {
                    JsonNode outcome = JSON.readTree(message.value());
                    if (outcome.path("request_id").asText().equals(requestId)) { // a fact has a cause instead
                        return outcome;
                    }
                }
            }
        }
        throw new TimeoutException("not decided in time");
    }

    static void send(String key, JsonNode request, String requestId) throws Exception {
        // acks=all, idempotence and the partitioner are the defaults.
        try (var producer = new KafkaProducer<>(
                Map.<String, Object>of("bootstrap.servers", BROKERS, "delivery.timeout.ms", (int) WAIT.toMillis(),
                    "request.timeout.ms", 10_000),
                new StringSerializer(), new StringSerializer())) {
            var record = new ProducerRecord<>(CLAIMS, key, JSON.writeValueAsString(request));
            Map.of("content-type", "application/json", "ce_specversion", "1.0", "ce_id", requestId,
                    "ce_type", "dibs.UsernameClaimed.v1", "ce_source", "Claim.java")
                .forEach((header, value) -> record.headers().add(header, value.getBytes(StandardCharsets.UTF_8)));
            producer.send(record).get(WAIT.toMillis() + 5_000, TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RetriableException) {
                throw new TimeoutException("it is not known whether Kafka has the claim: " + e.getCause().getMessage());
            }
            throw e;
        }
    }
    // </claim>

    /** Computes what each line says by itself, where it can. */
    static int vectors(Path file) throws Exception {
        byte[] pepper = new byte[32]; // the published one, for tests only
        for (byte i = 0; i < pepper.length; i++) {
            pepper[i] = i;
        }
        int lines = 0, keys = 0, wrong = 0;
        for (String line : Files.readAllLines(file)) {
            JsonNode v = JSON.readTree(line);
            String space = v.get("space").asText(), name = v.path("name").asText();
            String computed = switch (space) {
                case "username" -> username(name);
                case "email" -> privateKey(pepper, 1, space, email(name));
                case "member" -> privateKey(pepper, 1, space,
                    username(v.at("/fields/tenant").asText()), email(v.at("/fields/email").asText()));
                default -> null;
            };
            String key = computed != null ? computed : v.get("key").asText();
            String recordKey = space + "/" + key;
            int partition = partitionOf(recordKey, v.get("partitions").asInt());
            lines++;
            keys += computed != null ? 1 : 0;
            if (!key.equals(v.get("key").asText()) || !recordKey.equals(v.get("record_key").asText())
                    || partition != v.get("partition").asInt()) {
                wrong++;
                System.err.println(line + ": key " + key + ", partition " + partition);
            }
        }
        System.out.println(lines + " partitions and " + keys + " keys computed, " + wrong + " differ");
        return wrong == 0 && lines > 0 ? 0 : 1;
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("vectors")) {
            System.exit(vectors(Path.of(args[1])));
        }
        if (args.length < 3 || args.length > 4 || !args[0].equals("claim")) {
            System.err.println("Claim.java claim NAME OWNER [REQUEST_ID] | vectors FILE");
            System.exit(2);
        }
        String requestId = args.length == 4 ? args[3] : UUID.randomUUID().toString();
        try {
            JsonNode outcome = claim(args[1], args[2], requestId);
            System.out.println(outcome);
            System.exit(outcome.get("outcome").asText().equals("Accepted") ? 0 : 3);
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            System.exit(3);
        } catch (TimeoutException e) {
            System.err.println(e.getMessage() + "; the same again: claim " + args[1] + " " + args[2] + " " + requestId);
            System.exit(4);
        }
    }
}
