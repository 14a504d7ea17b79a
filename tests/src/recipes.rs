//! `docs/recipes.md`, read for what it tells: files to write and commands to run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The home of the mail system in the text.
const HOME: &str = "/var/qmail";

/// One section of the page.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its heading.
    pub title: String,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    /// The line above it.
    label: String,
    text: String,
}

/// All recipes of the page.
pub fn read(page: &str) -> Vec<Recipe> {
    let mut recipes = Vec::new();
    let mut label = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            recipes.push(Recipe {
                title: title.to_owned(),
                blocks: Vec::new(),
            });
        } else if line.starts_with("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            let text: String = text.flat_map(|line| [line, "\n"]).collect();
            if let Some(recipe) = recipes.last_mut() {
                let label = label.to_owned();
                recipe.blocks.push(Block { label, text });
            }
        } else if !line.is_empty() {
            label = line;
        }
    }
    recipes
}

impl Recipe {
    /// Does what the recipe says, in this home: writes its files, and runs the commands that are for the home.
    ///
    /// # Panics
    ///
    /// A file cannot be written, or a command fails.
    pub fn follow(&self, home: &Path) {
        for block in &self.blocks {
            if let Some(rest) = block.label.strip_prefix("File `") {
                let (name, rest) = rest.split_once('`').expect("a name in backticks");
                let path = home.join(name);
                fs::create_dir_all(path.parent().expect("below the home")).expect("a directory");
                fs::write(&path, block.in_home(home)).expect("a file");
                let mode = if rest.contains("mode 0755") {
                    0o755
                } else {
                    0o644
                };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            } else if block.label.starts_with("Commands, in ") {
                block.run(home);
            }
        }
    }

    /// Runs the commands whose label says `when`.
    ///
    /// # Panics
    ///
    /// There are none, or they fail.
    pub fn run(&self, when: &str, home: &Path) {
        let mut blocks = self.blocks.iter();
        let found =
            blocks.find(|block| block.label.starts_with("Commands") && block.label.contains(when));
        found.expect("commands").run(home);
    }
}

impl Block {
    fn in_home(&self, home: &Path) -> String {
        self.text
            .replace(HOME, home.to_str().expect("a plain name"))
    }

    fn run(&self, home: &Path) {
        let mut shell = Command::new("sh");
        shell.arg("-euc").arg(self.in_home(home)).current_dir(home);
        let output = in_home(&mut shell, home).output().expect("a shell");
        assert!(output.status.success(), "{self:?}: {output:?}");
    }
}

/// The environment in which the programs of a home find one another.
pub fn in_home<'c>(command: &'c mut Command, home: &Path) -> &'c mut Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = home.join("bin");
    command
        .env("QMAIL_HOME", home)
        .env("PATH", format!("{}:{path}", bin.display()))
}
