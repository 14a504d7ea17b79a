# What CI runs, and shortcuts. `just` lists them.

default:
    @just --list

# Everything CI runs.
ci *STEPS:
    .ci/run {{STEPS}}

# The main job: SMTP on 127.0.0.1:2525, POP3 on 127.0.0.1:2110, home in ./qmail-home.
serve *ARGS:
    cargo run --release -- serve {{ARGS}}

# The programs as one static binary, target/release/qmail: each starts in half the time (benches/start_time.py measures it).
static:
    cargo rustc --release --package qmail-cli --bin qmail -- -C target-feature=+crt-static

# The Debian package, target/debian/qmail-rs_*.deb.
deb:
    packaging/deb

# All tests that need nothing installed.
test:
    cargo test --workspace

# Formatting, lints, docs.
lint:
    .ci/run fmt clippy doc

# Conformance cases whose name contains PATTERN.
conform PATTERN:
    CONFORM_ONLY={{PATTERN}} cargo test -p qmail-tests --test conformance -- --nocapture

# Every fuzz target for some seconds.
fuzz SECONDS="30" *TARGETS:
    tests/system/fuzz {{SECONDS}} {{TARGETS}}

# Criterion benches.
bench *ARGS:
    cargo bench -p qmail-benches {{ARGS}}
