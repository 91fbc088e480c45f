//! Reasons why bytes are not read as text, by line.

use encoding_rs::Encoding;

/// Reason why bytes are not read as text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodingError {
    /// The bytes contradict the encoding.
    #[error("line {line} is not {}", .encoding.name())]
    Malformed {
        /// Encoding that was asked for, or that the byte order mark names.
        encoding: &'static Encoding,
        /// First line that contradicts it.
        line: usize,
    },
    /// The byte order mark names another encoding than the one that was asked for.
    #[error("has the byte order mark of {0}, and is not {asked}", asked = .1.name())]
    OtherMark(&'static str, &'static Encoding),
    /// UTF-32, which nothing here reads.
    #[error("is UTF-32")]
    Utf32,
    /// NUL bytes outside of UTF-16.
    #[error("is not text: line {line} contains NUL bytes")]
    Binary {
        /// First line with a NUL byte.
        line: usize,
    },
    /// UTF-8 with lines in another encoding.
    #[error("is UTF-8, but not line {line}: two encodings are mixed")]
    Mixed {
        /// First line that is not UTF-8.
        line: usize,
    },
    /// More than one encoding is possible.
    #[error("has an encoding that is not certain: line {line} may read {readings}")]
    Uncertain {
        /// First line with bytes beyond ASCII.
        line: usize,
        /// This line in the encodings that fit.
        readings: String,
    },
}

/// Returns the number of the line of this byte. A line ends in LF, CRLF, or CR alone.
pub(super) fn line_at(bytes: &[u8], at: usize) -> usize {
    let ends = memchr::memchr2_iter(b'\n', b'\r', &bytes[..at]);
    1 + ends.filter(|end| bytes[*end] == b'\n' || bytes.get(end + 1) != Some(&b'\n')).count()
}
