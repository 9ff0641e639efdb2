import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Gives names to whoever asks first: a topology of one processor with a state store, by name, with its changelog.
 *
 * <p>Options come as --name value. Standard input takes "pause" and "resume", each answered by "ok" on standard output once
 * it holds; "ok" is also what it begins with, when it serves. It ends when standard input does.
 */
public final class Names {
  private static final String STORE = "names";
  private static final Duration PATIENCE = Duration.ofSeconds(60);

  public static void main(String[] args) throws Exception {
    Map<String, String> options = new HashMap<>();
    for (int i = 0; i + 1 < args.length; i += 2) {
      options.put(args[i], args[i + 1]);
    }
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.String()));
    builder.stream(options.get("--in"), Consumed.with(Serdes.String(), Serdes.String()))
        .process(Decider::new, STORE)
        .to(options.get("--out"), Produced.with(Serdes.String(), Serdes.String()));

    CountDownLatch running = new CountDownLatch(1);
    KafkaStreams streams = new KafkaStreams(builder.build(), settings(options));
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.RUNNING) {
            running.countDown();
          } else if (now == KafkaStreams.State.ERROR) {
            System.exit(1);
          }
        });
    streams.start();
    if (!running.await(PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
      System.err.println("not running within " + PATIENCE);
      System.exit(1);
    }
    System.out.println("ok");
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      switch (line) {
        case "pause" -> streams.pause();
        case "resume" -> streams.resume();
        default -> throw new IllegalArgumentException(line);
      }
      System.out.println("ok");
    }
    streams.close(Duration.ofSeconds(10));
    System.exit(0);
  }

  private static Properties settings(Map<String, String> options) {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("--app-id"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("--brokers"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, options.get("--state-dir"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, options.get("--guarantee"));
    // Where a topic has no offset yet: what was asked before the first start is answered, too.
    p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    if (options.get("--tuned").equals("true")) {
      p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.get("--threads"));
      if (options.get("--guarantee").equals(StreamsConfig.EXACTLY_ONCE_V2)) {
        // An answer is seen when its transaction is committed: 100 ms unless one says otherwise.
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 10);
        // And a thread does not commit while it waits for records, which is 100 ms, too.
        p.put(StreamsConfig.POLL_MS_CONFIG, 5);
      }
      // Streams lingers for 100 ms unless one says otherwise.
      p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 1);
      p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 128 << 10);
      p.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    }
    return p;
  }

  /** Decides one claim after the other. */
  private static final class Decider implements Processor<String, String, String, String> {
    private static final int ID = "{\"request_id\":\"".length();
    private static final int ID_END = ID + 36;
    private static final String OWNER = "\"owner\":\"";

    private ProcessorContext<String, String> context;
    private KeyValueStore<String, String> owners;

    @Override
    public void init(ProcessorContext<String, String> context) {
      this.context = context;
      owners = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<String, String> claim) {
      String value = claim.value();
      int at = value.indexOf(OWNER, ID_END) + OWNER.length();
      String owner = value.substring(at, value.indexOf('"', at));
      String holder = owners.get(claim.key());
      if (holder == null) {
        owners.put(claim.key(), owner);
      }
      // At least once: whoever asks a second time holds the name already.
      boolean accepted = holder == null || holder.equals(owner);
      context.forward(
          claim.withValue("{\"request_id\":\"" + value.substring(ID, ID_END) + "\",\"accepted\":" + accepted + "}"));
    }
  }
}
