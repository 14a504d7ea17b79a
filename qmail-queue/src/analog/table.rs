//! Columns of text (columnt(1) of qmailanalog).

use super::lines::fields;

/// Most octets that a table may hold: every line must be seen before the first is printed.
pub const TABLE_OCTETS_MAX: usize = 512 << 20;

/// A table being gathered. Every column but the table's last is aligned to the right, with two blanks behind it.
///
/// ```
/// use qmail_queue::analog::Table;
/// let mut table = Table::default();
/// for row in ["mess sender", "12 <a@b>", "3 <>"] {
///     table.line(row.as_bytes())?;
/// }
/// let mut out = Vec::new();
/// table.write(&mut out)?;
/// assert_eq!(out, b"mess  sender\n  12  <a@b>\n   3  <>\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Table {
    /// The fields of all lines, each line with an LF after it, each field with a blank.
    text: Vec<u8>,
    widths: Vec<usize>,
}

/// A table has more than [`TABLE_OCTETS_MAX`] octets.
#[derive(Debug, thiserror::Error)]
#[error("more than {TABLE_OCTETS_MAX} octets are no table to look at")]
pub struct TableFull;

impl Table {
    /// Adds a line, whose fields blanks part.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn line(&mut self, line: &[u8]) -> Result<(), TableFull> {
        self.row(fields(line))
    }

    /// Adds a row of these fields, which hold no LF and, but for the last one, no blank.
    pub(super) fn row<'a>(&mut self, row: impl Iterator<Item = &'a [u8]>) -> Result<(), TableFull> {
        for (column, field) in row.enumerate() {
            match self.widths.get_mut(column) {
                Some(width) => *width = field.len().max(*width),
                None => self.widths.push(field.len()),
            }
            self.text.extend_from_slice(field);
            self.text.push(b' ');
            if self.text.len() > TABLE_OCTETS_MAX {
                return Err(TableFull);
            }
        }
        self.text.push(b'\n');
        Ok(())
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of `sink`.
    pub fn write(&self, sink: &mut dyn std::io::Write) -> std::io::Result<()> {
        let last = self.widths.len().saturating_sub(1);
        for line in self.text.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            for (column, field) in line.split_inclusive(|&octet| octet == b' ').enumerate() {
                let field = field.strip_suffix(b" ").unwrap_or(field);
                if column < last {
                    let blanks = self.widths[column] - field.len();
                    write!(sink, "{:blanks$}", "")?;
                }
                sink.write_all(field)?;
                if column < last {
                    sink.write_all(b"  ")?;
                }
            }
            sink.write_all(b"\n")?;
        }
        Ok(())
    }
}
