//! What entries without an `expect` must bring about: their `must`, in the words of `expect`.

use serde_json::{Map, Value};

/// By entry. The number of replies that are named is that of the commands in question.
const MUSTS: &[(&str, &str)] = &[
    (
        "ADDR-backslash-end",
        r#"{"last_replies": ["5"], "queued": 0}"#,
    ),
    ("ADDR-dots", r#"{"last_replies": ["250|501|55"]}"#),
    ("ADDR-ip-literal-own", r#"{"last_replies": ["553"]}"#),
    ("ADDR-quoted-space", r#"{"last_replies": ["250|550"]}"#),
    (
        "ADDR-relay-nodomain",
        r#"{"last_replies": ["250|550"], "never_route": "elsewhere.test"}"#,
    ),
    ("ADDR-space-after-colon", r#"{"last_replies": ["250|501"]}"#),
    ("ADDR-two-angle", r#"{"last_replies": ["501|555"]}"#),
    ("ADDR-uppercase-user", r#"{"last_replies": ["250"]}"#),
    ("ADDR-verp-token", r#"{"last_replies": ["250|501|555"]}"#),
    (
        "AUTH-base64-nonzero-pad",
        r#"{"last_replies": ["501|535|235"]}"#,
    ),
    (
        "AUTH-base64-all-lengths",
        r#"{"last_replies": ["334|501|535"]}"#,
    ),
    (
        "BDAT-basic",
        r#"{"last_replies": ["500|502|503"], "closed": "yes", "queued": 0, "never_reply": "221"}"#,
    ),
    (
        "BDAT-zero-chunk",
        r#"{"last_replies": ["500|502|503"], "closed": "yes", "queued": 0}"#,
    ),
    (
        "EXT-dsn-notify-conflict",
        r#"{"last_replies": ["501|555"]}"#,
    ),
    ("LEN-domain-255", r#"{"last_replies": ["250|5"]}"#),
    (
        "LEN-param-trailing-space",
        r#"{"last_replies": ["501|555", "501|555", "501|555"]}"#,
    ),
    ("LEN-path-256", r#"{"last_replies": ["250|501"]}"#),
    (
        "PIPE-data-with-arg",
        r#"{"replies": ["220", "250", "250", "250", "354|500|501"], "queued": 0}"#,
    ),
    (
        "PIPE-early-talker",
        r#"{"replies": ["220", "250", "250", "250", "354"], "queued": 0}"#,
    ),
    (
        "PIPE-helo-long",
        r#"{"last_replies": ["5"], "never_reply_contains": "aaaa"}"#,
    ),
    (
        "PIPE-telnet-iac",
        r#"{"replies": ["220", "5"], "never_reply_contains": "\u00ff"}"#,
    ),
    (
        "PIPE-turn-etrn",
        r#"{"last_replies": ["500|502", "500|502"]}"#,
    ),
    (
        "POP3-top-huge-lines",
        r#"{"last_replies": ["+OK"], "never_reply": "-ERR"}"#,
    ),
    (
        "POP3-user-crlf-injection",
        r#"{"replies": ["+OK", "-ERR", "-ERR"]}"#,
    ),
    (
        "POP3-user-twice",
        r#"{"replies": ["+OK", "+OK", "+OK|-ERR", "+OK|-ERR"]}"#,
    ),
    (
        "TLS-inject-lf-only",
        r#"{"replies": ["220", "250", "220"], "queued": 0}"#,
    ),
    ("TLS-fragmented-clienthello", r#"{"queued": 0}"#),
    ("UTF8-homograph", r#"{"last_replies": ["250|553"]}"#),
    ("UTF8-nfkc-dot", r#"{"last_replies": ["250|553"]}"#),
    ("UTF8-zero-width", r#"{"last_replies": ["250|553"]}"#),
];

/// What is expected of this entry; empty if nothing is written down.
pub(super) fn of(id: &str) -> Map<String, Value> {
    let found = MUSTS.iter().find(|(name, _)| *name == id);
    found.map_or_else(Map::new, |(_, expect)| {
        serde_json::from_str(expect).expect("an object")
    })
}
