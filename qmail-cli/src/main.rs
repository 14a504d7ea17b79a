//! The multi-call program `qmail`.

fn main() {}
