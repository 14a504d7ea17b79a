//! Hostile clients: the entries of `cases/hostile.json` that a client plays against `qmail serve`.
//!
//! Whatever an entry expects, these always hold: the server does not panic, another connection that was open meanwhile is
//! answered, and no raw control octet reaches the log. What an entry without `expect` must bring about is in `musts.rs`, or it is
//! played in a way of its own.

mod clock;
mod conversation;
mod encrypted;
mod generate;
mod musts;
mod special;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::octets::{Octets, Table, find, from_text};
use super::suite::{Outcome, Report, in_parallel};
use conversation::{Mode, Protocol, Transcript};
use world::{Queued, World};

/// An entry. Keys that say nothing about a client are left out.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    area: String,
    why: String,
    role: String,
    input: Option<Octets>,
    chunks: Option<Vec<Octets>>,
    mode: Option<String>,
    #[serde(default)]
    control: Table<Octets>,
    /// Whether a stricter answer is as good.
    #[serde(default)]
    policy: bool,
    #[serde(default)]
    expect: Map<String, Value>,
}

/// The hostile clients of some areas.
#[derive(Debug)]
pub struct HostileClients(Vec<Entry>);

impl HostileClients {
    /// Reads the entries of a file whose area begins with `area`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or an entry in it is not understood.
    pub fn read(path: &Path, area: &str) -> std::io::Result<Self> {
        let mut entries: Vec<Entry> = serde_json::from_slice(&std::fs::read(path)?)?;
        entries.retain(|entry| entry.role == "client-sends" && entry.area.starts_with(area));
        for entry in &mut entries {
            // That nothing panics is looked at always, and says nothing.
            entry.expect.remove("no_panic");
            if entry.expect.is_empty() {
                entry.expect = musts::of(&entry.id);
            }
        }
        Ok(Self(entries))
    }

    /// The names that the entries have as cases: `hostile/ID`.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(Entry::name).collect()
    }

    /// Plays the entries whose name contains `only`, several at a time, each against a server of its own.
    pub fn run(&self, program: &str, only: &str) -> Report {
        let entries: Vec<_> = (self.0.iter())
            .filter(|entry| entry.name().contains(only))
            .collect();
        let cases = in_parallel(&entries, |entry| {
            // What helps to talk to a server panics when the server does not do its part.
            let played = catch_unwind(AssertUnwindSafe(|| match special::play(&entry.id) {
                Some(special) => special(program),
                None => play(entry, program),
            }));
            let outcome = match played {
                Ok(Ok(wrong)) if wrong.is_empty() => Outcome::Passed,
                Ok(Ok(wrong)) => Outcome::Failed(wrong),
                Ok(Err(failure)) => Outcome::Failed(format!("  {failure}\n")),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
                    Outcome::Failed(format!("  the server did not do its part: {text}\n"))
                }
            };
            (entry.name(), entry.why.clone(), outcome)
        });
        Report { cases }
    }
}

impl Entry {
    fn name(&self) -> String {
        format!("hostile/{}", self.id)
    }

    fn protocol(&self) -> Protocol {
        if self.area == "pop3-server" {
            Protocol::Pop3
        } else {
            Protocol::Smtp
        }
    }

    /// What the client sends, one list of pieces for each connection; an error if that cannot be made here.
    fn connections(&self) -> Result<Vec<Vec<Vec<u8>>>, String> {
        if let Some(chunks) = &self.chunks {
            return Ok(vec![chunks.iter().map(|chunk| chunk.0.clone()).collect()]);
        }
        if let Some(input) = &self.input {
            return Ok(vec![vec![input.0.clone()]]);
        }
        let generated = generate::connections(&self.id)
            .ok_or("what this entry generates is not among what this runner can make")?;
        Ok(generated.into_iter().map(|octets| vec![octets]).collect())
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.expect.get(key)?.as_u64()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.expect.get(key)?.as_str()
    }

    fn octets(&self, key: &str) -> Option<Vec<u8>> {
        from_text(self.text(key)?)
    }
}

/// Plays an entry and says what was wrong; an error if it cannot be played.
fn play(entry: &Entry, program: &str) -> Result<String, String> {
    if entry.expect.is_empty() {
        return Err("nothing says what this entry must bring about".to_owned());
    }
    let mode = Mode::of(entry.mode.as_deref())?;
    let connections = entry.connections()?;
    let deliver = entry.expect.contains_key("canary_absent");
    let any_password = entry.area != "smtp-server/auth";
    let world = World::new(program, &entry.control, deliver, any_password)
        .map_err(|error| error.to_string())?;
    let address = world.address(entry.protocol());
    let mut bystander = conversation::bystander(address, entry.protocol())?;
    let resident = world.resident_kib();
    let started = std::time::Instant::now();

    let mut wrong = String::new();
    for pieces in &connections {
        let before = world.queued().len();
        let closes = entry.text("closed") == Some("yes");
        let transcript = if pieces.iter().any(|piece| piece == encrypted::HANDSHAKE) {
            encrypted::hold(address, entry.protocol(), pieces, &world.identity)?
        } else {
            conversation::hold(address, entry.protocol(), mode, pieces, closes)?
        };
        let queued = world.queued().split_off(before);
        compare_replies(entry, &transcript, &mut wrong);
        compare_queue(entry, &queued, &mut wrong);
        if !wrong.is_empty() {
            wrong.push_str(&transcript.shown());
            break;
        }
    }
    let milliseconds = started.elapsed().as_millis();

    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push_str(&format!("  {what}\n"));
        }
    };
    if let Some(most) = entry.number("max_ms") {
        check(
            milliseconds <= u128::from(most),
            format!("took {milliseconds} ms, more than {most}"),
        );
    }
    if let Some(most) = entry.number("max_rss_growth_mb") {
        let now = world.resident_most_kib().unwrap_or(u64::MAX);
        let grown = now.saturating_sub(resident);
        check(
            grown <= most * 1024,
            format!("resident memory grew by {grown} KiB, more than {most} MiB"),
        );
    }
    if let Some(deleted) = entry.number("deleted") {
        let seen = world.deleted();
        check(
            seen == deleted,
            format!("{seen} messages of alice are gone, not {deleted}"),
        );
    }
    if deliver {
        check(!world.canary(), "the canary is there".to_owned());
    }
    check(
        bystander.is_answered(),
        "another connection is no longer answered".to_owned(),
    );
    for line in world.log() {
        check(
            !line.contains("panicked"),
            format!("the server panicked: {line}"),
        );
        check(
            !line.chars().any(char::is_control),
            format!("a raw control octet in the log: {line:?}"),
        );
    }
    Ok(wrong)
}

/// What is expected of the replies and the end of one connection.
fn compare_replies(entry: &Entry, transcript: &Transcript, wrong: &mut String) {
    let replies: Vec<&str> = transcript.replies.iter().map(String::as_str).collect();
    for key in ["replies", "last_replies"] {
        let Some(Value::Array(want)) = entry.expect.get(key) else {
            continue;
        };
        let have = match key {
            "replies" => &replies[..],
            _ => &replies[replies.len().saturating_sub(want.len())..],
        };
        let as_wanted = have.len() == want.len()
            && (have.iter().zip(want))
                .all(|(have, want)| want.as_str().is_some_and(|want| begins(have, want)));
        let stricter = entry.policy && have.last().is_some_and(|have| begins(have, "4|5|-ERR"));
        if !as_wanted && !stricter {
            wrong.push_str(&format!("  {key}: want {want:?}, have {have:?}\n"));
        }
    }
    if let Some(never) = entry.text("never_reply")
        && replies.iter().any(|reply| begins(reply, never))
    {
        wrong.push_str(&format!("  a reply begins with {never}\n"));
    }
    if let Some(never) = entry.octets("never_reply_contains")
        && find(&transcript.output, &never).is_some()
    {
        wrong.push_str(&format!("  a reply contains {}\n", never.escape_ascii()));
    }
    let closed = match entry.text("closed") {
        Some("yes") => transcript.closed,
        Some("no") => !transcript.closed,
        _ => true,
    };
    if !closed {
        wrong.push_str(&format!(
            "  closed by the server: {}\n",
            if transcript.closed { "yes" } else { "no" }
        ));
    }
}

/// Whether a reply begins with one of the prefixes, which stand between bars.
fn begins(reply: &str, prefixes: &str) -> bool {
    prefixes.split('|').any(|prefix| reply.starts_with(prefix))
}

/// What is expected of the messages that one connection queued.
fn compare_queue(entry: &Entry, queued: &[Queued], wrong: &mut String) {
    let count = queued.len() as u64;
    let as_wanted = match entry.expect.get("queued") {
        None => true,
        Some(Value::Array(counts)) => counts.iter().any(|want| want.as_u64() == Some(count)),
        Some(want) => want.as_u64() == Some(count),
    };
    if !as_wanted {
        let want = &entry.expect["queued"];
        wrong.push_str(&format!("  queued: want {want}, have {count}\n"));
    }
    for message in queued {
        if let Some(never) = entry.octets("never_envelope_sender")
            && message.sender == never
        {
            wrong.push_str(&format!("  queued from {}\n", never.escape_ascii()));
        }
        if let Some(never) = entry.octets("never_route")
            && (message.recipients.iter())
                .any(|recipient| recipient.ends_with(&[b"@", &never[..]].concat()))
        {
            wrong.push_str(&format!("  queued to {}\n", never.escape_ascii()));
        }
        if let Some(part) = entry.octets("body_if_queued_contains")
            && find(&message.text, &part).is_none()
        {
            wrong.push_str(&format!(
                "  what was queued does not contain {}\n",
                part.escape_ascii()
            ));
        }
        if let Some(body) = entry.octets("body")
            && !message.text.ends_with(&body)
        {
            wrong.push_str(&format!(
                "  queued is not {}, but {}\n",
                body.escape_ascii(),
                message.text.escape_ascii()
            ));
        }
    }
}
