//! The entries of `cases/hostile.json`, for tests that play them one by one.

use std::path::Path;

use serde_json::Value;

/// All entries of an area.
///
/// # Panics
///
/// The file is not there, or has no entry of this area.
pub fn entries(area: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/hostile.json");
    let file = std::fs::read(path).expect("the file");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    let entries = file.as_array().expect("an array").iter();
    let found: Vec<_> = entries
        .filter(|entry| entry["area"] == area)
        .cloned()
        .collect();
    assert!(!found.is_empty(), "{area}");
    found
}

/// Their names.
pub fn ids(area: &str) -> Vec<String> {
    let entries = entries(area).into_iter();
    entries
        .filter_map(|entry| Some(entry["id"].as_str()?.to_owned()))
        .collect()
}
