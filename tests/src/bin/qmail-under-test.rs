//! The multi-call program `qmail`, built as part of this package so that its tests find it without a separate build.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    qmail_cli::main()
}
