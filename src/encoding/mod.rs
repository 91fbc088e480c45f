//! Encodings of the files that people feed in. Nothing is replaced: what cannot be read with certainty is an error.

mod detect;
mod error;
mod western;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

pub(crate) use detect::{Mark, mark, utf16_without_mark};
pub(crate) use error::EncodingError;
use error::line_at;

/// Names that programs print and the registry of encodings does not have, without case and punctuation.
const ALIASES: [(&str, &str); 12] = [
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("ansi", "windows-1252"),
    ("win1250", "windows-1250"),
    ("win1251", "windows-1251"),
    ("win1252", "windows-1252"),
    ("windowslatin1", "windows-1252"),
    ("macroman", "macintosh"),
    ("utf16", "utf-16le"),
    ("unicode", "utf-16le"),
];

/// A text, and the encoding that it was read with.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    pub(crate) encoding: &'static Encoding,
}

/// Returns the encoding of this name: one of the WHATWG's labels, or a name that programs use for it.
pub(crate) fn by_name(name: &str) -> Option<&'static Encoding> {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let wanted = plain(name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == wanted).map(|(_, label)| *label);
    let labels = [alias.unwrap_or(name), &name.replace([' ', '_'], "-"), &wanted];
    labels.iter().find_map(|label| Encoding::for_label_no_replacement(label.as_bytes()))
}

/// Reads bytes as text, in the encoding that was asked for, or in the one that is found.
///
/// # Errors
/// They contradict the encoding, or it is not certain.
pub(crate) fn decode(bytes: &[u8], asked: Option<&'static Encoding>) -> Result<Decoded, EncodingError> {
    let (rest, encoding) = match (mark(bytes), asked) {
        (Some(Mark { encoding: None, .. }), _) => return Err(EncodingError::Utf32),
        (Some(Mark { encoding: Some(found), .. }), Some(asked)) if found != asked => {
            return Err(EncodingError::OtherMark(found.name(), asked));
        }
        (Some(Mark { encoding: Some(found), length }), _) => (&bytes[length..], found),
        (None, Some(asked)) => (bytes, asked),
        (None, None) => (bytes, detect::encoding_of(bytes)?),
    };
    if ![UTF_16LE, UTF_16BE].contains(&encoding)
        && let Some(at) = memchr::memchr(0, rest)
    {
        return Err(EncodingError::Binary { line: line_at(rest, at) });
    }
    match encoding.decode_without_bom_handling_and_without_replacement(rest) {
        Some(text) => Ok(Decoded { text: text.into_owned(), encoding }),
        None => Err(EncodingError::Malformed { encoding, line: first_malformed_line(rest, encoding) }),
    }
}

/// Returns the first line that contradicts the encoding.
fn first_malformed_line(bytes: &[u8], encoding: &'static Encoding) -> usize {
    if encoding == UTF_8 {
        return std::str::from_utf8(bytes).map_or_else(|error| line_at(bytes, error.valid_up_to()), |_| 1);
    }
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    let at = text.find(char::REPLACEMENT_CHARACTER).unwrap_or_default();
    line_at(text.as_bytes(), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes_of).collect()
    }

    #[test]
    fn the_encoding_is_found() {
        let text = "MPN,Maker\nµ-SD,Würth\n";
        let western = b"MPN,Maker\n\xb5-SD,W\xfcrth\n".to_vec();
        let marked = |mark: &[u8], rest: Vec<u8>| [mark, &rest].concat();
        for (bytes, name) in [
            (text.as_bytes().to_vec(), "UTF-8"),
            (marked(b"\xef\xbb\xbf", text.as_bytes().to_vec()), "UTF-8"),
            (utf16(text, u16::to_le_bytes), "UTF-16LE"),
            (utf16(text, u16::to_be_bytes), "UTF-16BE"),
            (marked(b"\xff\xfe", utf16(text, u16::to_le_bytes)), "UTF-16LE"),
            (marked(b"\xfe\xff", utf16(text, u16::to_be_bytes)), "UTF-16BE"),
            (western, "windows-1252"),
        ] {
            let decoded = decode(&bytes, None).unwrap();
            assert_eq!((decoded.text.as_str(), decoded.encoding.name()), (text, name));
        }
    }

    #[test]
    fn nothing_is_replaced() {
        for (bytes, expected) in [
            (&b"MPN,Maker\nX,W\x9frth\n"[..], "or \"X,WŸrth\" (windows-1252) or \"X,Würth\" (macintosh)"),
            (b"MPN,Maker\nX,W\x81rth\n", "not certain: line 2"),
            (b"MPN,Value\nX,25\xf8C\n", "not certain: line 2"),
            (b"MPN\nW\xc3\xbcrth\nW\xc3\xbcrth\nW\xfcrth\n", "not line 4: two encodings"),
            (b"MPN\nX\0\n", "line 2 contains NUL"),
            (b"\xff\xfe\0\0M\0\0\0", "UTF-32"),
            (b"\xff\xfeM\0\n\0\0\xd8X\0", "line 2 is not UTF-16LE"),
            (b"\xff\xfeM\0\n\0X", "line 2 is not UTF-16LE"),
            (b"\xef\xbb\xbfM\n\xfc\n", "line 2 is not UTF-8"),
        ] {
            let error = decode(bytes, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
        let error = decode(b"MPN\n\xff\xff\n", by_name("Shift-JIS")).unwrap_err();
        assert_eq!(error.to_string(), "line 2 is not Shift_JIS");
        let error = decode(b"\xff\xfeM\0", by_name("gbk")).unwrap_err();
        assert_eq!(error.to_string(), "has the byte order mark of UTF-16LE, and is not GBK");
    }

    #[test]
    fn encodings_of_east_asia_are_named_and_read_where_they_are_asked_for() {
        let text =
            "型番,メーカー,説明\nGRM155,村田製作所,積層セラミックコンデンサ\nRC0603,ヤゲオ,チップ抵抗器\n";
        let (bytes, ..) = encoding_rs::SHIFT_JIS.encode(text);
        let error = decode(&bytes, None).unwrap_err();
        assert!(error.to_string().contains("line 1 may read \"型番,メーカー,説明\" (Shift_JIS)"), "{error}");
        assert_eq!(decode(&bytes, by_name("cp932")).unwrap().text, text);
        let text = "型号,制造商,描述\nGRM155,村田,贴片电容\nRC0603,国巨,贴片电阻\n";
        let (bytes, ..) = encoding_rs::GBK.encode(text);
        let error = decode(&bytes, None).unwrap_err();
        assert!(error.to_string().contains("line 1 may read \"型号,制造商,描述\" (GBK)"), "{error}");
        assert_eq!(decode(&bytes, by_name("GB2312")).unwrap().text, text);
    }

    #[test]
    fn encodings_have_the_names_that_people_write() {
        for (name, expected) in [
            ("latin1", "windows-1252"),
            ("Latin-1", "windows-1252"),
            ("ISO-8859-1", "windows-1252"),
            ("CP1252", "windows-1252"),
            ("Windows 1252", "windows-1252"),
            ("utf8", "UTF-8"),
            ("UTF-16", "UTF-16LE"),
            ("sjis", "Shift_JIS"),
            ("GB18030", "gb18030"),
            ("mac-roman", "macintosh"),
            ("Mac", "macintosh"),
        ] {
            assert_eq!(by_name(name).map(Encoding::name), Some(expected), "{name}");
        }
        assert_eq!(by_name("klingon"), None);
        assert_eq!(by_name(""), None);
    }
}
