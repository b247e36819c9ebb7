# Short names of the commands in CONTRIBUTING.md. `just` lists them.

[private]
default:
    @just --list --unsorted

# Tests the core. This takes seconds after the first build.
fast *arguments:
    cargo test -p identity {{arguments}}

# Checks format, documents, language, imports and lints.
check:
    cargo fmt --all --check
    python3 -m unittest discover -s tests/docs
    python3 tests/docs/references.py
    python3 tests/docs/language.py
    python3 tests/docs/imports.py
    cargo clippy --workspace --all-targets -- --deny warnings

# Installs the packages of the tests and runs every test. With arguments it only runs `cargo test` with them.
test *arguments:
    tests/run {{arguments}}

# Runs all checks and all tests, as the continuous integration does.
gate:
    .ci/run

# Starts the local server on https://localhost:8443 and http://localhost:8080.
run *arguments:
    cargo run -- {{arguments}}

# Checks an AWS account before a deployment: just preflight --stack-name identity --parameter ResourceId=<GUID>
preflight *arguments:
    infra/preflight {{arguments}}
