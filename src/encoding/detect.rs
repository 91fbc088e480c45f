//! Detection of an encoding: byte order marks, NUL bytes, UTF-8, and a guess that is named and not taken.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, MACINTOSH, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::error::{EncodingError, line_at};
use super::western;

/// Bytes whose NUL bytes tell UTF-16 from other encodings.
const SAMPLE_BYTES: usize = 4096;

/// Characters of a line that an error quotes.
const QUOTED_CHARS: usize = 60;

/// A byte order mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    /// Encoding that it names; `None` is UTF-32.
    pub(crate) encoding: Option<&'static Encoding>,
    /// Length in bytes.
    pub(crate) length: usize,
}

/// Returns the byte order mark at the beginning.
pub(crate) fn mark(bytes: &[u8]) -> Option<Mark> {
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Some(Mark { encoding: None, length: 4 });
    }
    let (encoding, length) = Encoding::for_bom(bytes)?;
    Some(Mark { encoding: Some(encoding), length })
}

/// Returns the byte order of UTF-16 without a mark: text that is mostly ASCII has its NUL bytes on one side.
pub(crate) fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let nul_bytes = |first: usize| sample.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    // Half of the bytes of ASCII, and a quarter where every second character is of another script.
    let are_many = |nul_bytes: usize| nul_bytes > 0 && nul_bytes * 4 >= sample.len();
    match (nul_bytes(0), nul_bytes(1)) {
        (0, odd) if are_many(odd) => Some(UTF_16LE),
        (even, 0) if are_many(even) => Some(UTF_16BE),
        _ => None,
    }
}

/// Returns the encoding of bytes without a mark.
///
/// Windows-1252 is what spreadsheets of Western Europe and America save, and every byte has a meaning in it: it is taken only where
/// all of its characters make sense where they stand. Any other guess is an error that names it.
pub(super) fn encoding_of(bytes: &[u8]) -> Result<&'static Encoding, EncodingError> {
    if let Some(encoding) = utf16_without_mark(bytes) {
        return Ok(encoding);
    }
    let Err(error) = std::str::from_utf8(bytes) else { return Ok(UTF_8) };
    let first_invalid = error.valid_up_to();
    if let Some(at) = memchr::memchr(0, bytes) {
        return Err(EncodingError::Binary { line: line_at(bytes, at) });
    }
    if mostly_utf8(bytes) {
        return Err(EncodingError::Mixed { line: line_at(bytes, first_invalid) });
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let guess = detector.guess(None, Utf8Detection::Deny);
    let implausible = western::first_implausible(bytes);
    if guess == WINDOWS_1252 && implausible.is_none() {
        return Ok(WINDOWS_1252);
    }
    let at = implausible.unwrap_or(first_invalid);
    Err(EncodingError::Uncertain { line: line_at(bytes, at), readings: readings(bytes, at, guess) })
}

/// Returns whether most of the bytes beyond ASCII are valid UTF-8.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut valid, mut invalid) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        valid += chunk.valid().bytes().filter(|byte| !byte.is_ascii()).count();
        invalid += chunk.invalid().len();
    }
    valid > invalid
}

/// Returns the line of this byte in the encodings that it may have.
fn readings(bytes: &[u8], at: usize, guess: &'static Encoding) -> String {
    let from = memchr::memrchr2(b'\n', b'\r', &bytes[..at]).map_or(0, |before| before + 1);
    let to = memchr::memchr2(b'\n', b'\r', &bytes[at..]).map_or(bytes.len(), |after| at + after);
    let line = bytes[from..to].trim_ascii_end();
    let mut readings = Vec::new();
    for encoding in [guess, WINDOWS_1252, MACINTOSH] {
        let text = encoding.decode_without_bom_handling_and_without_replacement(line);
        if let Some(text) = text.filter(|text| !text.chars().any(char::is_control)) {
            let quoted: String = text.chars().take(QUOTED_CHARS).collect();
            let reading = format!("\"{quoted}\" ({})", encoding.name());
            if !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings.join(" or ")
}
