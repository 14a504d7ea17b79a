//! The list of the cases that do not pass yet.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// The names of the cases that do not pass yet, one a line in a file, sorted; a line that begins with `#` is a remark.
#[derive(Debug, Default)]
pub struct NotPassing {
    remarks: String,
    names: BTreeSet<String>,
}

impl NotPassing {
    /// Reads a list. Remarks stand before the names.
    ///
    /// # Errors
    ///
    /// Says which line is not in its place: a name that is not sorted, that stands there twice, or a remark among names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                if !list.names.is_empty() {
                    return Err(format!("line {number}: remarks stand before the names"));
                }
                list.remarks.push_str(line);
                list.remarks.push('\n');
                continue;
            }
            if line.trim() != line {
                return Err(format!("line {number}: a name has no blanks around it"));
            }
            if list.names.last().is_some_and(|last| last.as_str() >= line) {
                return Err(format!(
                    "line {number}: {line} does not come after the line before; the names are sorted"
                ));
            }
            list.names.insert(line.to_owned());
        }
        Ok(list)
    }

    /// Reads a list from a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no such list.
    pub fn read(path: &Path) -> io::Result<Self> {
        let explain = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| explain(&error))?;
        Self::parse(&text).map_err(|error| explain(&error))
    }

    /// Whether a case is listed.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Puts a name in, or takes it out.
    pub fn set(&mut self, name: &str, listed: bool) {
        if listed {
            self.names.insert(name.to_owned());
        } else {
            self.names.remove(name);
        }
    }

    /// The list as its file has it.
    pub fn to_text(&self) -> String {
        let mut text = self.remarks.clone();
        for name in &self.names {
            text.push_str(name);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_changes_and_writes_a_list() {
        let text = "# remark\n\n# more\na/one\nb/two\n";
        let mut list = NotPassing::parse(text).unwrap();
        assert_eq!(list.to_text(), text);
        assert!(list.contains("a/one") && !list.contains("a/on"));
        list.set("a/one", false);
        list.set("a/zero", true);
        assert_eq!(list.names().collect::<Vec<_>>(), ["a/zero", "b/two"]);
    }

    #[test]
    fn refuses_disorder() {
        for (text, line) in [
            ("b\na\n", "line 2"),
            ("a\na\n", "line 2"),
            ("a\n# late\n", "line 2"),
            ("# x\n a\n", "line 2"),
        ] {
            assert!(
                NotPassing::parse(text).unwrap_err().starts_with(line),
                "{text:?}"
            );
        }
    }
}
