"""Every metric of the system, in one place. Labels come from bounded sets; counters end in ``_total``; base units."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# producers
TICKS_RECEIVED = Counter("arbitrex_ticks_received_total", "Ticks that a source gave", ["feed", "shard"])
TICKS_PUBLISHED = Counter("arbitrex_ticks_published_total", "Ticks acknowledged by Kafka", ["feed", "shard"])
TICKS_QUEUE_SIZE = Gauge("arbitrex_ticks_queue_size", "Ticks waiting for Kafka's acknowledgement", ["feed", "shard"])
POLL_SECONDS = Histogram(
    "arbitrex_poll_cycle_seconds", "One poll over all symbols", ["feed", "shard"], buckets=_LATENCY
)
TICKS_LATE = Counter(
    "arbitrex_ticks_late_total", "Ticks that a source showed late, published as corrections", ["feed", "shard"]
)
FEED_GAPS = Counter("arbitrex_feed_gaps_total", "Spans whose ticks a source has lost", ["feed", "shard"])
SPOOL_BYTES = Gauge("arbitrex_spool_bytes", "What waits on a producer's disk for Kafka", ["feed", "shard"])
SPOOL_AGE = Gauge(
    "arbitrex_spool_oldest_seconds", "How long the first of it has waited; 0 with nothing there", ["feed", "shard"]
)
SPOOL_FULL = Counter(
    "arbitrex_spool_full_total", "How often a spool took no more: size, age, disk", ["feed", "shard", "reason"]
)
SHARD_CAPACITY = Gauge(
    "arbitrex_shard_symbols_capacity", "Symbols that a shard can poll within a second", ["feed", "shard"]
)
SOURCE_ERRORS = Counter("arbitrex_source_errors_total", "Failed calls to a source", ["feed", "shard", "reason"])
IMPORT_LINES_MALFORMED = Counter(
    "arbitrex_import_lines_malformed_total", "Lines of a file that are no tick", ["reason"]
)

# processors
RECORDS_PROCESSED = Counter("arbitrex_records_processed_total", "Records of ticks.raw in committed transactions")
TICKS_CLEAN = Counter("arbitrex_ticks_clean_total", "Ticks that passed the filter")
TICKS_REJECTED = Counter("arbitrex_ticks_rejected_total", "Ticks that did not pass", ["reason"])
TICKS_CROSSED = Counter(
    "arbitrex_ticks_crossed_total", "Ticks that passed with their bid above their ask, where the feed keeps such"
)
TICKS_REPEATED = Counter("arbitrex_ticks_repeated_total", "Ticks seen before, written nowhere")
BARS_PUBLISHED = Counter("arbitrex_bars_published_total", "Closed and revised bars", ["timeframe", "status"])
DEAD_LETTERS = Counter("arbitrex_dead_letters_total", "Records that no schema or no code could process", ["reason"])
PROCESSOR_SKIPPED = Counter(
    "arbitrex_processor_records_skipped_total",
    "Records of others where the processor's own belong",
    ["topic", "reason"],
)
TRANSACTION_SECONDS = Histogram("arbitrex_transaction_seconds", "One transaction, begin to commit", buckets=_LATENCY)
PROCESSOR_LAG = Gauge("arbitrex_processor_lag_records", "Records of ticks.raw not yet processed", ["partition"])

# sinks
TICKS_FLUSHED = Counter("arbitrex_ticks_flushed_total", "Ticks committed by a sink", ["sink"])
SINK_ROWS = Counter("arbitrex_sink_rows_total", "Rows committed by a sink", ["sink", "table"])
SINK_COMMIT_SECONDS = Histogram("arbitrex_sink_commit_seconds", "One commit of a sink", ["sink"], buckets=_LATENCY)
SINK_SKIPPED = Counter("arbitrex_sink_skipped_total", "Records that a sink cannot keep", ["sink", "table", "reason"])
SINK_LOST = Counter("arbitrex_sink_lost_total", "Records lost to retention before a sink read them", ["sink", "table"])
SINK_FAILURES = Counter("arbitrex_sink_failed_commits_total", "Commits that are tried again", ["sink"])
SINK_LAG = Gauge("arbitrex_sink_lag_records", "Records not yet committed by a sink", ["sink"])
SINK_LAG_SECONDS = Gauge(
    "arbitrex_sink_lag_seconds", "Age of the latest event time that a sink has committed; 0 with no lag", ["sink"]
)
SINK_BUFFER_BYTES = Gauge(
    "arbitrex_sink_buffer_bytes", "Bytes of rows that a sink has read and not committed", ["sink"]
)
LAKE_REWRITTEN = Counter("arbitrex_lake_rewritten_files_total", "Files put together by the optimizer", ["table"])
SINK_FILES = Counter("arbitrex_sink_files_total", "Files that a sink has committed", ["sink"])

# gateway
CLIENTS = Gauge("arbitrex_gateway_clients", "Connected WebSocket clients")
CLIENT_MESSAGES = Counter("arbitrex_gateway_messages_sent_total", "Messages sent to clients", ["channel"])
CLIENT_ERRORS = Counter("arbitrex_gateway_client_errors_total", "Errors told to clients", ["code"])
SLOW_CLIENTS = Counter("arbitrex_gateway_slow_clients_total", "Clients whose queue was full", ["action"])
GATEWAY_SKIPPED = Counter("arbitrex_gateway_records_skipped_total", "Records that could not be decoded", ["topic"])
