//! Entries that want time, a peer or a look of their own. Hours are played as seconds, with the limits lowered as much.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::conversation::{self, Mode, Protocol};
use super::world::World;
use super::{clock, encrypted, generate};

/// How long a server may take to do what a second's limit makes it do.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an entry is played that is special: it says what was wrong, or why it could not be played.
type Play = fn(&str) -> Result<String, String>;

/// The way to play this entry, if it is special.
pub(super) fn play(id: &str) -> Option<Play> {
    Some(match id {
        "SLOW-data-drip" => data_drip,
        "SLOW-half-open" => half_open,
        "UTF8-downgrade" => utf8_downgrade,
        "TLS-renegotiation-flood" => key_update_flood,
        "LEN-databytes-exact" => databytes_exact,
        "LEN-received-99-100-101" => received_limit,
        "SLOW-clock-forward" => clock::forward,
        "POP3-idle" => pop3_idle,
        "POP3-1M-messages" => huge_maildir,
        "POP3-top-zero" => top_zero,
        "POP3-dotstuff" => |program| retrieved(program, b".\n..\n.a\n"),
        "POP3-bare-cr-body" => |program| retrieved(program, b"a\r.\rb\r\n.\r\nc\n"),
        "POP3-uidl-dup" => same_name_twice,
        _ => return None,
    })
}

fn world(program: &str, control: &[(&str, &str)], deliver: bool) -> Result<World, String> {
    World::with_controls(program, control, deliver).map_err(|error| error.to_string())
}

/// An octet now and then, against a limit on the whole message.
fn data_drip(program: &str) -> Result<String, String> {
    let world = world(program, &[("timeoutdata", "2\n")], false)?;
    let mut stream = conversation::connect(world.address(Protocol::Smtp))?;
    let start =
        b"EHLO c.test\r\nMAIL FROM:<s@remote.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\n";
    stream.write_all(start).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    while stream.write_all(b"x").is_ok() {
        if begun.elapsed() > PATIENCE {
            return Ok("  an octet now and then is heard for ever\n".to_owned());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let mut wrong = world.trouble();
    if !world.queued().is_empty() {
        wrong.push_str("  what dripped was queued\n");
    }
    let temporary = world.files_in_queue();
    if temporary > 0 {
        wrong.push_str(&format!("  {temporary} files are left in the queue\n"));
    }
    Ok(wrong)
}

/// A client that neither sends nor reads holds its place no longer than the limit.
fn half_open(program: &str) -> Result<String, String> {
    let control = [("timeoutsmtpd", "1\n"), ("concurrencyincoming", "1\n")];
    let world = world(program, &control, false)?;
    let address = world.address(Protocol::Smtp);
    let _silent = conversation::connect(address)?;
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    loop {
        let stream = conversation::connect(address)?;
        let mut line = String::new();
        let _ = BufReader::new(stream).read_line(&mut line);
        if line.starts_with("220") {
            return Ok(world.trouble());
        }
        if begun.elapsed() > PATIENCE {
            return Ok("  a silent client holds its place for ever\n".to_owned());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A sender that the next host cannot be told.
fn utf8_downgrade(program: &str) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let next = listener.local_addr().map_err(|error| error.to_string())?;
    let (told, mails) = std::sync::mpsc::channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _ = ascii_server(stream, &told);
        }
    });
    let route = format!(":127.0.0.1:{}\n", next.port());
    let control = [("smtproutes", &*route), ("relayclients", "127.0.0.1\n")];
    let world = world(program, &control, true)?;
    let text = "EHLO c.test\r\nMAIL FROM:<\u{e9}@local.test> SMTPUTF8\r\nRCPT TO:<x@remote.test>\r\nDATA\r\n\
                Subject: t\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let pieces = [text.as_bytes().to_vec()];
    converse(world.address(Protocol::Smtp), &pieces)?;
    let begun = Instant::now();
    let failed = |line: &String| line.contains("failure: ") && line.contains("5.6.7");
    while !world.log().iter().any(failed) {
        if begun.elapsed() > PATIENCE {
            let log = world.log().join("\n  ");
            return Ok(format!(
                "  no permanent failure 5.6.7 in the log:\n  {log}\n"
            ));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let mut wrong = world.trouble();
    for mail in mails.try_iter() {
        wrong.push_str(&format!("  the next host was told {mail:?}\n"));
    }
    Ok(wrong)
}

/// A server without SMTPUTF8, which tells of each MAIL that is no bounce.
fn ascii_server(
    stream: std::net::TcpStream,
    told: &std::sync::mpsc::Sender<String>,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    writer.write_all(b"220 next.test ESMTP\r\n")?;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let shown = line.trim_ascii_end().escape_ascii().to_string();
        let reply: &[u8] = match line.get(..4) {
            Some(b"QUIT") => return writer.write_all(b"221 next.test\r\n"),
            Some(b"EHLO") => b"250-next.test\r\n250 8BITMIME\r\n",
            Some(b"MAIL") => {
                // Bounces are sent in its place.
                if !shown.contains("<>") && !shown.contains("<#@[]>") {
                    let _ = told.send(shown);
                }
                b"250 ok\r\n"
            }
            Some(b"DATA") => b"451 not now\r\n",
            _ => b"250 ok\r\n",
        };
        writer.write_all(reply)?;
        line.clear();
    }
    Ok(())
}

/// Requests for new keys without end.
fn key_update_flood(program: &str) -> Result<String, String> {
    let world = world(program, &[], false)?;
    let address = world.address(Protocol::Smtp);
    let begun = Instant::now();
    let borne = encrypted::flood_with_key_updates(address, &world.identity, 100_000)?;
    let mut wrong = world.trouble();
    if borne {
        wrong.push_str("  100,000 requests for new keys were answered\n");
    }
    if begun.elapsed() > PATIENCE {
        wrong.push_str("  it took more than its time\n");
    }
    Ok(wrong)
}

/// Messages of sizes around the limit, counted as they are stored.
fn databytes_exact(program: &str) -> Result<String, String> {
    let control = [("databytes", "1000; length counted as documented\n")];
    let world = world(program, &control, false)?;
    let mut wrong = String::new();
    for letters in 970..1010 {
        let stored = "Subject: t\n\n".len() + letters + "\n".len();
        let reply = if stored <= 1000 { "250" } else { "552" };
        let pieces = [generate::message_of(letters)];
        let transcript = converse(world.address(Protocol::Smtp), &pieces)?;
        // The reply to the text, to NOOP and to QUIT.
        let last = &transcript.replies[transcript.replies.len().saturating_sub(3)..];
        let right = [reply, "250", "221"];
        let matches = last.len() == 3
            && last
                .iter()
                .zip(right)
                .all(|(it, want)| it.starts_with(want));
        if !matches {
            wrong.push_str(&format!(
                "  {stored} octets: want {right:?}, have {last:?}\n"
            ));
        }
    }
    wrong.push_str(&world.trouble());
    Ok(wrong)
}

/// As many hops as make a loop, and some around: 100, as of qmail-smtpd(8).
fn received_limit(program: &str) -> Result<String, String> {
    let world = world(program, &[], false)?;
    let mut wrong = String::new();
    let connections = generate::connections("LEN-received-99-100-101").unwrap_or_default();
    let wanted = ["250 ", "250 ", "554 5.4.6 ", "554 5.4.6 ", "554 5.4.6 "];
    if connections.len() != wanted.len() {
        wrong.push_str("  other messages than were thought of\n");
    }
    for (octets, wanted) in connections.into_iter().zip(wanted) {
        let transcript = converse(world.address(Protocol::Smtp), &[octets])?;
        // The reply to the text and to QUIT.
        match &transcript.replies[..] {
            [.., text, quit] if text.starts_with(wanted) && quit.starts_with("221") => {}
            replies => wrong.push_str(&format!("  want {wanted}, have {replies:?}\n")),
        }
    }
    let queued = world.queued().len();
    if queued != 2 {
        wrong.push_str(&format!("  queued: {queued}, not 2\n"));
    }
    wrong.push_str(&world.trouble());
    Ok(wrong)
}

/// What the server says to a user who has logged in, after the reply to the password.
fn in_maildrop(world: &World, command: &str) -> Result<Vec<u8>, String> {
    let said = format!("USER alice\r\nPASS secret\r\n{command}\r\n").into_bytes();
    let address = world.address(Protocol::Pop3);
    let (protocol, mode) = (Protocol::Pop3, Mode::Lockstep);
    let output = conversation::hold(address, protocol, mode, &[said], false)?.output;
    // The greeting, USER, PASS.
    let mut lines = output.splitn(4, |&octet| octet == b'\n');
    Ok(lines.nth(3).unwrap_or_default().to_vec())
}

/// The header, the empty line behind it, and the end.
fn top_zero(program: &str) -> Result<String, String> {
    let world = world(program, &[], false)?;
    let said = in_maildrop(&world, "TOP 1 0")?;
    let mut wrong = world.trouble();
    if said != b"+OK \r\nSubject: 0\r\n\r\n\r\n.\r\n" && said != b"+OK \r\nSubject: 0\r\n\r\n.\r\n"
    {
        wrong.push_str(&format!("  said: {}\n", said.escape_ascii()));
    }
    Ok(wrong)
}

/// A client that knows CR LF alone as the end of a line gets the text back, and sees its end where it is.
fn retrieved(program: &str, text: &[u8]) -> Result<String, String> {
    let world = world(program, &[], false)?;
    let stored = [b"Subject: x\n\n", text].concat();
    world
        .add_oldest("new/1.a", &stored)
        .map_err(|error| error.to_string())?;
    let said = in_maildrop(&world, "RETR 1")?;
    let mut lines = Vec::new();
    let mut rest = said.strip_prefix(b"+OK \r\n").unwrap_or_default();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    let mut wrong = world.trouble();
    let end = lines.iter().position(|line| *line == b".");
    if !rest.is_empty() || end.is_none_or(|end| end + 1 != lines.len()) {
        wrong.push_str("  the end is not where it is seen\n");
    }
    lines.pop();
    // qmail-pop3d(8) adds an empty line.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let seen: Vec<u8> = (lines.iter())
        .flat_map(|line| [line.strip_prefix(b".").unwrap_or(line), b"\n"].concat())
        .collect();
    let mut wanted = stored;
    while let Some(at) = wanted.windows(2).position(|two| two == b"\r\n") {
        wanted.remove(at);
    }
    if seen != wanted {
        wrong.push_str(&format!("  said: {}\n", said.escape_ascii()));
    }
    Ok(wrong)
}

/// Two files whose names begin alike.
fn same_name_twice(program: &str) -> Result<String, String> {
    let world = world(program, &[], false)?;
    for name in ["new/1.a", "cur/1.a:2,S"] {
        world
            .add_oldest(name, b"Subject: x\n\nx\n")
            .map_err(|error| error.to_string())?;
    }
    let said = in_maildrop(&world, "UIDL")?;
    let said = String::from_utf8_lossy(&said);
    let mut ids: Vec<_> = (said.lines())
        .filter_map(|line| line.split_once(' '))
        .filter(|(number, _)| number.parse::<u32>().is_ok())
        .map(|(_, id)| id)
        .collect();
    let listed = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let mut wrong = world.trouble();
    if ids.len() != listed || listed < 3 {
        wrong.push_str(&format!("  said: {said:?}\n"));
    }
    Ok(wrong)
}

/// A login, a deletion, and silence: an end by the server's patience is no QUIT.
fn pop3_idle(program: &str) -> Result<String, String> {
    let world = world(program, &[("timeoutpop3d", "2\n")], false)?;
    let begun = Instant::now();
    let pieces = [b"USER alice\r\nPASS secret\r\nDELE 1\r\n".to_vec()];
    let transcript = conversation::hold(
        world.address(Protocol::Pop3),
        Protocol::Pop3,
        Mode::Hold,
        &pieces,
        true,
    )?;
    let mut wrong = world.trouble();
    let deleted = transcript.replies.len() == 4
        && transcript
            .replies
            .iter()
            .all(|reply| reply.starts_with("+OK"));
    if !deleted {
        wrong.push_str(&format!("  replies: {:?}\n", transcript.replies));
    }
    if !transcript.closed || begun.elapsed() > PATIENCE {
        wrong.push_str("  a client that says nothing more is waited for\n");
    }
    if world.deleted() > 0 {
        wrong.push_str("  what was only marked is gone\n");
    }
    Ok(wrong)
}

/// A tenth of the million: its tenth of the time, counted as that of the processor, since others work here too.
fn huge_maildir(program: &str) -> Result<String, String> {
    const MESSAGES: usize = 100_000;
    const MILLISECONDS_MAX: u64 = 500;
    // Those of a session, and those that are remembered for the next one, which is not done for a million.
    const OCTETS_EACH_MAX: u64 = 200 + 100;
    let world = world(program, &[], false)?;
    world
        .add_messages(MESSAGES)
        .map_err(|error| error.to_string())?;
    let (resident, worked) = (world.resident_kib(), world.worked_milliseconds());
    let login = [b"USER alice\r\nPASS secret\r\nSTAT\r\n".to_vec()];
    let hold = |pieces: &[Vec<u8>]| {
        conversation::hold(
            world.address(Protocol::Pop3),
            Protocol::Pop3,
            Mode::Lockstep,
            pieces,
            false,
        )
    };
    let transcript = hold(&login)?;
    let worked = world.worked_milliseconds().saturating_sub(worked);
    let mut wrong = world.trouble();
    let all = format!("+OK {} ", MESSAGES + 2);
    if !transcript
        .replies
        .last()
        .is_some_and(|it| it.starts_with(&all))
    {
        wrong.push_str(&format!("  replies: {:?}\n", transcript.replies));
    }
    if worked > MILLISECONDS_MAX {
        wrong.push_str(&format!(
            "  the login took {worked} ms of the processor, more than {MILLISECONDS_MAX}\n"
        ));
    }
    let lists = [b"USER alice\r\nPASS secret\r\nLIST\r\nUIDL\r\nQUIT\r\n".to_vec()];
    let lines = hold(&lists)?
        .output
        .iter()
        .filter(|&&it| it == b'\n')
        .count();
    if lines < 2 * MESSAGES {
        wrong.push_str(&format!("  LIST and UIDL had {lines} lines\n"));
    }
    let now = world.resident_most_kib().unwrap_or(u64::MAX);
    let grown = now.saturating_sub(resident) * 1024;
    if grown > OCTETS_EACH_MAX * MESSAGES as u64 {
        wrong.push_str(&format!(
            "  memory grew by {grown} octets for {MESSAGES} messages\n"
        ));
    }
    Ok(wrong)
}

fn converse(address: SocketAddr, pieces: &[Vec<u8>]) -> Result<conversation::Transcript, String> {
    conversation::hold(address, Protocol::Smtp, Mode::Lockstep, pieces, true)
}
