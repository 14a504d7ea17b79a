//! What a sender says about the octets of its message.

/// The value of `BODY=` (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyType {
    /// `7BIT`: no octet above 127.
    SevenBit,
    /// `8BITMIME`: any octet, in lines.
    EightBitMime,
}
