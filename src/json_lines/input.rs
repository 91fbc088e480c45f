//! A stream as UTF-8, whatever of Unicode's encodings it has.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::Range;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use crate::encoding::{Mark, mark, utf16_without_mark};
use crate::file_kind::FileKind;

/// Bytes at the beginning that tell the encoding. A stream is read no further ahead than this.
const HEAD_BYTES: usize = 8;

/// Size of a piece that is decoded, in bytes.
const PIECE_BYTES: usize = 8192;

/// Returns a stream as UTF-8, without its byte order mark.
///
/// # Errors
/// It cannot be read, or is not text.
pub(super) fn utf8(mut input: impl Read + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut head = [0; PIECE_BYTES];
    let mut filled = 0;
    while filled < HEAD_BYTES {
        match input.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let head = &head[..filled];
    let text = String::from_utf8_lossy(head);
    // Braces and brackets are what is wanted.
    if let Some(kind) =
        FileKind::of_bytes(head).or_else(|| FileKind::of_text(&text).filter(|kind| *kind != FileKind::Json))
    {
        return Err(io::Error::other(format!(
            "it is {}\nhint: publish reads events as JSON, in UTF-8 or UTF-16",
            kind.name()
        )));
    }
    let (encoding, skipped) = match mark(head) {
        Some(Mark { encoding: None, .. }) => {
            return Err(io::Error::other(
                "it is UTF-32\nhint: publish reads events as JSON, in UTF-8 or UTF-16",
            ));
        }
        Some(Mark { encoding: Some(encoding), length }) => (encoding, length),
        None => (utf16_without_mark(head).unwrap_or(UTF_8), 0),
    };
    let whole = Cursor::new(head[skipped..].to_vec()).chain(input);
    if encoding == UTF_8 {
        return Ok(Box::new(BufReader::new(whole)));
    }
    Ok(Box::new(Utf16 {
        input: BufReader::new(whole),
        encoding,
        decoder: encoding.new_decoder_without_bom_handling(),
        text: vec![0; PIECE_BYTES],
        unread: 0..0,
        has_ended: false,
        is_malformed: false,
    }))
}

/// A stream of UTF-16, read as UTF-8.
struct Utf16<R> {
    input: BufReader<R>,
    encoding: &'static Encoding,
    decoder: Decoder,
    text: Vec<u8>,
    /// Part of `text` that is not read.
    unread: Range<usize>,
    has_ended: bool,
    /// The bytes after `text` are not of the encoding.
    is_malformed: bool,
}

impl<R: Read> BufRead for Utf16<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.unread.is_empty() && !self.has_ended {
            if self.is_malformed {
                return Err(io::Error::other(format!("it is not {} throughout", self.encoding.name())));
            }
            let piece = self.input.fill_buf()?;
            let last = piece.is_empty();
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(piece, &mut self.text, last);
            self.input.consume(read);
            self.unread = 0..written;
            match result {
                DecoderResult::Malformed(..) => self.is_malformed = true,
                DecoderResult::InputEmpty => self.has_ended = last,
                DecoderResult::OutputFull => {}
            }
        }
        Ok(&self.text[self.unread.clone()])
    }

    fn consume(&mut self, bytes: usize) {
        self.unread.start += bytes;
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers its bytes one at a time, as a slow pipe may.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let one = to.len().min(1);
            self.0.read(&mut to[..one])
        }
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        utf8(Slow(Cursor::new(bytes.to_vec())))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn encodings_of_unicode_are_read() {
        let text = format!("{{\"a\": \"µ😀{}\"}}\r\n", "x".repeat(20_000));
        let utf16 =
            |bytes_of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes_of).collect::<Vec<u8>>();
        for (mark, bytes) in [
            (&b""[..], text.clone().into_bytes()),
            (b"\xef\xbb\xbf", text.clone().into_bytes()),
            (b"\xff\xfe", utf16(u16::to_le_bytes)),
            (b"\xfe\xff", utf16(u16::to_be_bytes)),
            (b"", utf16(u16::to_le_bytes)),
            (b"", utf16(u16::to_be_bytes)),
        ] {
            assert_eq!(read(&[mark, &bytes].concat()).unwrap(), text, "{mark:?}");
        }
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(b"{}").unwrap(), "{}");
    }

    #[test]
    fn other_files_are_one_error() {
        for (bytes, expected) in [
            (&b"\x1f\x8b\x08\0\0\0\0\0\0"[..], "it is compressed (gzip)"),
            (b"PK\x03\x04\0\0\0\0\0\0", "it is a ZIP archive"),
            (b"<?xml version=\"1.0\"?>", "it is an XML file"),
            (b"\xff\xfe\0\0{\0\0\0", "it is UTF-32"),
            (b"\xff\xfe{\0\0\xd8}\0", "it is not UTF-16LE throughout"),
            (b"\xff\xfe{\0}\0\n", "it is not UTF-16LE throughout"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
