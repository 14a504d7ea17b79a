//! What the files of users must not be like.

/// How strict deliveries are with the files of users.
///
/// ```
/// use qmail_deliver::Strictness;
/// assert_eq!(Strictness::default(), Strictness { refused_modes: 0o002, mbox_links: true });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strictness {
    /// A home directory or an instruction file that has one of these mode bits defers the message: whoever may write there could
    /// run programs as its owner. `0o002` if not said otherwise, the `conf-patrn` of the classic system; `0o022` where groups are
    /// not one's own.
    pub refused_modes: u32,
    /// Whether the name of an mbox may be a symbolic link, as it always might. Where others can write to a directory of mailboxes,
    /// it had better not be.
    pub mbox_links: bool,
}

impl Default for Strictness {
    fn default() -> Self {
        Self {
            refused_modes: 0o002,
            mbox_links: true,
        }
    }
}
