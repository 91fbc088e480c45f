//! Files that are not what was asked for, by their first bytes.

/// Bytes at the beginning that tell.
pub(crate) const SAMPLE_BYTES: usize = 4096;

/// Kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// An Excel workbook.
    Xlsx,
    /// An `OpenDocument` spreadsheet.
    Ods,
    /// Another ZIP archive.
    Zip,
    /// An Excel workbook of before 2007, or another compound file of Microsoft's.
    Xls,
    /// Compressed, by the name of the program.
    Compressed(&'static str),
    /// PDF.
    Pdf,
    /// RTF.
    Rtf,
    /// An image.
    Image,
    /// HTML.
    Html,
    /// XML.
    Xml,
    /// JSON.
    Json,
    /// A schematic or a netlist of a CAD program.
    Schematic,
}

/// Signatures at the first byte.
const SIGNATURES: [(&[u8], FileKind); 13] = [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind::Xls),
    (b"\x09\x08\x10\x00", FileKind::Xls),
    (b"%PDF-", FileKind::Pdf),
    (b"{\\rtf", FileKind::Rtf),
    (b"\x1f\x8b", FileKind::Compressed("gzip")),
    (b"BZh", FileKind::Compressed("bzip2")),
    (b"\xfd7zXZ\0", FileKind::Compressed("xz")),
    (b"\x28\xb5\x2f\xfd", FileKind::Compressed("zstd")),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Compressed("7-Zip")),
    (b"Rar!\x1a\x07", FileKind::Compressed("RAR")),
    (b"\x89PNG\r\n", FileKind::Image),
    (b"\xff\xd8\xff", FileKind::Image),
    (b"GIF8", FileKind::Image),
];

/// Beginnings of texts, in lower case, after blanks.
const BEGINNINGS: [(&str, FileKind); 14] = [
    ("<!doctype html", FileKind::Html),
    ("<html", FileKind::Html),
    ("<head", FileKind::Html),
    ("<body", FileKind::Html),
    ("<table", FileKind::Html),
    ("<meta", FileKind::Html),
    ("<?xml", FileKind::Xml),
    ("<!--", FileKind::Xml),
    ("{", FileKind::Json),
    ("[", FileKind::Json),
    ("(kicad", FileKind::Schematic),
    ("(export", FileKind::Schematic),
    ("eeschema", FileKind::Schematic),
    ("|record=", FileKind::Schematic),
];

impl FileKind {
    /// Returns the kind of a file that begins with these bytes, where it is neither a table of text nor unknown.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<FileKind> {
        if bytes.starts_with(b"PK\x03\x04") {
            let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
            let names = |name: &[u8]| memchr::memmem::find(sample, name).is_some();
            return Some(match () {
                () if names(b"application/vnd.oasis.opendocument") => FileKind::Ods,
                () if names(b"xl/") || names(b"[Content_Types].xml") => FileKind::Xlsx,
                () => FileKind::Zip,
            });
        }
        SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)).map(|(_, kind)| *kind)
    }

    /// Returns the kind of a text that begins with this, where it is not a table.
    pub(crate) fn of_text(text: &str) -> Option<FileKind> {
        let text = text.trim_start();
        let begins = |beginning: &str| {
            text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        BEGINNINGS.iter().find(|(beginning, _)| begins(beginning)).map(|(_, kind)| *kind)
    }

    /// Returns the name, after "is".
    pub(crate) fn name(self) -> String {
        match self {
            FileKind::Xlsx => "an Excel workbook (XLSX)".into(),
            FileKind::Ods => "an OpenDocument spreadsheet".into(),
            FileKind::Zip => "a ZIP archive".into(),
            FileKind::Xls => "an Excel workbook of the old format (XLS)".into(),
            FileKind::Compressed(by) => format!("compressed ({by})"),
            FileKind::Pdf => "a PDF document".into(),
            FileKind::Rtf => "an RTF document".into(),
            FileKind::Image => "an image".into(),
            FileKind::Html => "an HTML page".into(),
            FileKind::Xml => "an XML file".into(),
            FileKind::Json => "a JSON file".into(),
            FileKind::Schematic => "a schematic or a netlist".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        for (bytes, kind) in [
            (&b"PK\x03\x04....[Content_Types].xml"[..], FileKind::Xlsx),
            (b"PK\x03\x04..mimetypeapplication/vnd.oasis.opendocument.spreadsheet", FileKind::Ods),
            (b"PK\x03\x04..bom.csv", FileKind::Zip),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind::Xls),
            (b"%PDF-1.7", FileKind::Pdf),
            (b"\x1f\x8b\x08", FileKind::Compressed("gzip")),
        ] {
            assert_eq!(FileKind::of_bytes(bytes), Some(kind));
        }
        assert_eq!(FileKind::of_bytes(b"MPN,Quantity\n"), None);
        for (text, kind) in [
            ("\n <!DOCTYPE HTML>", FileKind::Html),
            ("<TABLE border=1>", FileKind::Html),
            ("<?xml version=\"1.0\"?>", FileKind::Xml),
            ("[{}]", FileKind::Json),
            ("(kicad_sch (version 2023))", FileKind::Schematic),
        ] {
            assert_eq!(FileKind::of_text(text), Some(kind));
        }
        assert_eq!(FileKind::of_text("ΩMPN"), None);
    }
}
