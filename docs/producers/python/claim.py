"""Claims a username through Kafka with confluent-kafka, and waits for the outcome.

    python claim.py claim NAME OWNER [REQUEST_ID]   prints the outcome; exit code 0: accepted, 3: rejected, 4: not known
    python claim.py vectors FILE                    compares keys and partitions with those that dibs computes

DIBS_KAFKA_BROKERS says where Kafka is, DIBS_KAFKA_TOPIC_PREFIX what the topics' names begin with.
"""
import hashlib
import hmac
import json
import os
import re
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

BROKERS = os.environ.get("DIBS_KAFKA_BROKERS", "localhost:9092")
PREFIX = os.environ.get("DIBS_KAFKA_TOPIC_PREFIX", "")
CLAIMS, REGISTRATIONS = PREFIX + "claims", PREFIX + "registrations"
WAIT = 30  # seconds


# <key>
def username(name):
    """The key of a name in the space username: ASCII, compared in lower case."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]", name):
        raise ValueError(f"{name!r} is no name: 3 to 32 letters, digits and . _ -, the first and last no punctuation")
    return name.lower()


def partition_of(record_key, partitions):
    """Where the Java client puts a key, and librdkafka with partitioner=murmur2_random."""
    return (murmur2(record_key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data):
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


# </key>
# <private>
def private_key(pepper, version, space, *values):
    """The key of a value, or of several together, in a private space."""
    text = b"".join(len(p).to_bytes(4, "big") + p for p in (s.encode() for s in ("key", space, *values)))
    return f"h{version}:" + hmac.new(pepper, text, hashlib.sha256).hexdigest()


def email(address):
    """The canonical form of an address: only what is behind the @ is the same in capitals."""
    local, domain = address.split("@")
    return local + "@" + domain.lower()


# </private>
# <claim>
def claim(name, owner, request_id):
    key = "username/" + username(name)
    outcomes = Consumer({"bootstrap.servers": BROKERS, "group.id": "unused", "enable.auto.commit": False})
    try:
        # Where the outcomes end now, before asking. The one we wait for comes behind that.
        topic = outcomes.list_topics(REGISTRATIONS, timeout=WAIT).topics[REGISTRATIONS]
        if topic.error:
            raise RuntimeError(f"{REGISTRATIONS}: {topic.error}")
        here = [TopicPartition(REGISTRATIONS, p) for p in topic.partitions]
        for at in here:
            _, at.offset = outcomes.get_watermark_offsets(at, timeout=WAIT)
        outcomes.assign(here)

        send(key, {"space": "username", "name": name, "owner": owner, "mode": "register"}, request_id)

        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            message = outcomes.poll(0.5)
            if message is None or message.error():
                continue
            outcome = json.loads(message.value())
            if outcome.get("request_id") == request_id:  # a fact has a cause instead
                return outcome
    finally:
        outcomes.close()
    raise TimeoutError("not decided in time")


def send(key, request, request_id):
    # librdkafka's own partitioner hashes by CRC32: the claim would be forwarded, and cost a second trip.
    producer = Producer({
        "bootstrap.servers": BROKERS, "partitioner": "murmur2_random", "acks": "all", "enable.idempotence": True,
        "delivery.timeout.ms": WAIT * 1000,
    })
    failed = []
    producer.produce(
        CLAIMS, key=key.encode(), value=json.dumps(request).encode(),
        headers={
            "content-type": "application/json", "ce_specversion": "1.0", "ce_id": request_id,
            "ce_type": "dibs.UsernameClaimed.v1", "ce_source": "claim.py",
        },
        on_delivery=lambda error, message: error and failed.append(error),
    )
    if producer.flush(WAIT + 5) or failed:
        raise TimeoutError(f"it is not known whether Kafka has the claim: {failed}")


# </claim>
def vectors(path):
    """Computes what each line says by itself, where it can."""
    pepper, keys, wrong = bytes(range(32)), 0, 0  # the published one, for tests only
    compute = {
        "username": lambda v: username(v["name"]),
        "email": lambda v: private_key(pepper, 1, "email", email(v["name"])),
        "member": lambda v: private_key(pepper, 1, "member", username(v["fields"]["tenant"]), email(v["fields"]["email"])),
    }
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for v in lines:
        key = compute[v["space"]](v) if v["space"] in compute else v["key"]
        keys += v["space"] in compute
        record_key = v["space"] + "/" + key
        partition = partition_of(record_key, v["partitions"])
        if (key, record_key, partition) != (v["key"], v["record_key"], v["partition"]):
            wrong += 1
            print(f"{v}: key {key}, partition {partition}", file=sys.stderr)
    print(f"{len(lines)} partitions and {keys} keys computed, {wrong} differ")
    return 1 if wrong or not lines else 0


def main(arguments):
    match arguments:
        case ["vectors", path]:
            return vectors(path)
        case ["claim", name, owner, *more] if len(more) < 2:
            request_id = more[0] if more else str(uuid.uuid4())
            try:
                outcome = claim(name, owner, request_id)
            except TimeoutError as error:
                print(f"{error}; the same again: claim {name} {owner} {request_id}", file=sys.stderr)
                return 4
            except ValueError as error:
                print(error, file=sys.stderr)
                return 3
            print(json.dumps(outcome))
            return 0 if outcome["outcome"] == "Accepted" else 3
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
