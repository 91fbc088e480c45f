//! Tables as programs write them.

use super::*;

/// Returns the lines as `mpn (manufacturer)`.
fn lines(bom: &Bom) -> Vec<String> {
    let text = |line: &Line| match &line.manufacturer {
        Some(maker) => format!("{} ({maker})", line.mpn),
        None => line.mpn.clone(),
    };
    bom.lines.iter().map(text).collect()
}

fn refusal(bytes: &[u8]) -> String {
    parse("x.csv", bytes, None).unwrap_err().to_string()
}

fn skipped(text: &str) -> Vec<(usize, SkipReason)> {
    let bom = parse("x.csv", text.as_bytes(), None).unwrap();
    bom.skipped.iter().map(|row| (row.line, row.reason)).collect()
}

#[test]
fn the_sample_is_a_real_board() {
    let bom = Bom::sample().unwrap();
    assert!(bom.lines.len() >= 60 && bom.warnings.is_empty() && bom.skipped.is_empty());
    assert!(bom.lines.iter().all(|line| line.manufacturer.is_some()));
}

#[test]
fn columns_are_found_by_the_names_that_programs_give_them() {
    for text in [
        "MPN,Manufacturer\nLM358,TI\n",
        "Ref;Mfr. Part #;Mfr\nR1;LM358;TI\n",
        "\u{feff}\"Part Number\"\tBrand\r\nLM358\tTI\r\n",
        "Qty,MFG_PART_NUMBER,MFG_NAME\n1,\"LM358\",TI\n",
        // KiCad: symbol fields, and the names that KiCost reads.
        "\"Reference\",\"Value\",\"Footprint\",\"Qty\",\"DNP\",\"MPN\",\"MANUFACTURER\"\n\"U1\",\"LM358\",\"SOIC-8\",\"1\",\"\",\"LM358\",\"TI\"\n",
        "Id;Designator;Package;Quantity;Designation;manf#;manf\n1;U1;SOIC-8;1;LM358;LM358;TI\n",
        // Altium: a preset with several choices of part.
        "Comment\tDescription\tDesignator\tFootprint\tLibRef\tQuantity\tManufacturer 1\tManufacturer Part Number 1\tSupplier 1\tSupplier Part Number 1\nOp amp\t\tU1\tSO8\tLM358\t1\tTI\tLM358\tDigi-Key\t296-1395-5-ND\n",
        // Eagle: bom.ulp with attributes.
        "Qty;Value;Device;Package;Parts;Description;MF;MPN;OC_FARNELL\n1;LM358;LM358D;SO08;IC1;Op amp;TI;LM358;123\n",
        // OrCAD.
        "Item\tQuantity\tReference\tPart\tManufacturer P/N\tManufacturer Name\n1\t1\tU1\tOpAmp\tLM358\tTI\n",
        "Item Number|Quantity|Part Reference|Value|Mfr_PN|Mfr_Name\n1|1|U1|LM358|LM358|TI\n",
        // EasyEDA.
        "ID\tName\tDesignator\tFootprint\tQuantity\tManufacturer Part\tManufacturer\tSupplier\tSupplier Part\n1\tLM358\tU1\tSOIC-8\t1\tLM358\tTI\tLCSC\tC7950\n",
        // LCSC, JLCPCB.
        "LCSC Part Number,Manufacture Part Number,Manufacturer,Customer NO.,Package\nC7950,LM358,TI,,SOIC-8\n",
        "MFR.Part #,JLCPCB Part #,Brand\nLM358,C7950,TI\n",
        // Digi-Key, Mouser, Farnell, RS.
        "Index,Quantity,Part Number,Manufacturer Part Number,Manufacturer Name,Description\n1,1,296-1395-5-ND,LM358,TI,Op amp\n",
        "Digi-Key Part Number,Manufacturer Product Number,Manufacturer\n296-1395-5-ND,LM358,TI\n",
        "Mouser #,Mfr. #,Manufacturer,Customer #,Order Qty.\n595-LM358,LM358,TI,,1\n",
        "Order Code,Manufacturer Part No,Manufacturer,Quantity\n3117207,LM358,TI,1\n",
        "RS Stock No.,Mfr Part No.,Brand\n761-3498,LM358,TI\n",
        // Other languages.
        "Anzahl;Bauteil;Hersteller;Hersteller-Teilenummer\n1;U1;TI;LM358\n",
        "Quantité;Référence fabricant;Fabricant\n1;LM358;TI\n",
        "商品编号,厂家型号,品牌,数量\nC7950,LM358,TI,1\n",
        "数量,メーカー型番,メーカー\n1,LM358,TI\n",
        // What keeps a spreadsheet from changing a cell.
        "MPN,Manufacturer\n=\"LM358\",TI\n",
        "MPN,Manufacturer\n\"=\"\"LM358\"\"\",\u{a0}TI \n",
        // CR alone, and blanks beside the separators.
        "MPN , Manufacturer\rLM358 , TI\r",
    ] {
        let bom = parse("x.csv", text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(lines(&bom), ["LM358 (TI)"], "{text}");
        assert_eq!(bom.warnings, [""; 0], "{text}");
    }
}

#[test]
fn the_header_is_the_first_line_that_names_part_numbers() {
    for (text, header_line) in [
        ("Title,Board\nDate,2026-05-02\n\nMPN,Manufacturer\nLM358,TI\n", 4),
        // The board's own number above the table.
        ("Part Number,PCB-100\nRevision,C\nReference,Qty,MPN,Manufacturer\nU1,1,LM358,TI\n", 3),
        ("Part Number:;PCB-100\n;\nPart Number;Manufacturer;Quantity\nLM358;TI;1\n", 3),
        // The preamble has another separator than the table.
        ("Board, revision C, of 2026, by us, for them\nMPN;Manufacturer\nLM358;TI\n", 2),
        ("sep=;\nMPN;Manufacturer\nLM358;TI\n", 2),
        ("\"sep=\t\"\n\nMPN\tManufacturer\nLM358\tTI\n", 3),
        ("SEP=|\nMPN|Manufacturer, full name\nLM358|TI\n", 2),
    ] {
        let bom = parse("x.csv", text.as_bytes(), None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(
            (bom.header_line, bom.lines[0].mpn.as_str(), bom.lines.len()),
            (header_line, "LM358", 1),
            "{text}"
        );
    }
}

#[test]
fn the_first_of_several_part_numbers_is_read() {
    let text = "Reference,MPN 1,Manufacturer 1,MPN 2,Manufacturer 2\nU1,LM358DR,TI,LM358DT,ST\nQ1,,onsemi,BSS138,Nexperia\n";
    let bom = parse("x.csv", text.as_bytes(), None).unwrap();
    assert_eq!(lines(&bom), ["LM358DR (TI)", "BSS138 (Nexperia)"]);
    assert_eq!(bom.part_number_columns, ["MPN 1", "MPN 2"]);
}

#[test]
fn rows_that_are_not_lines_are_skipped_with_their_reason() {
    use SkipReason::{Blank, NoPartNumber, NotPopulated, RepeatedHeader, Total};
    let text = "Reference,Qty,MPN,DNP\nU1,1,LM358,\n\n,,,\nFID1,1,,\nR1,1,RC0603,DNP\nR2,1,DNP,\nR3,1,N/A,\nR4,1,RC0603,0\nReference,Qty,MPN,DNP\nR5,1,\"RC\n0402\",no\nTotal,7,,\n";
    assert_eq!(
        skipped(text),
        [
            (3, Blank),
            (4, Blank),
            (5, NoPartNumber),
            (6, NotPopulated),
            (7, NotPopulated),
            (8, NoPartNumber),
            (10, RepeatedHeader),
            (13, Total)
        ]
    );
    assert_eq!(lines(&parse("x.csv", text.as_bytes(), None).unwrap()), ["LM358", "RC0603", "RC 0402"]);
    assert_eq!(skipped("MPN;Fitted\nLM358;Fitted\nBSS138;Not Fitted\n"), [(3, NotPopulated)]);
    assert_eq!(skipped("MPN;Populate\nLM358;yes\nBSS138;No\n"), [(3, NotPopulated)]);
    assert_eq!(skipped("MPN;Value\nLM358;\nBSS138;DNF\nSumme;2\n"), [(3, NotPopulated), (4, Total)]);
}

#[test]
fn refusals_name_the_reason_and_the_fix() {
    let utf16: Vec<u8> = "Value\tFootprint\n10k\t0603\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, expected) in [
        (&b""[..], "x.csv is empty\nhint: "),
        (b"\xef\xbb\xbf \r\n \r\n", "is empty"),
        (b"U1,LM358,TI\nQ1,BSS138,onsemi\n", "no header line"),
        (b"Value,Footprint\n10k,0603\n", "only \"Value\", \"Footprint\"\nhint: add a column MPN"),
        (&utf16, "only \"Value\", \"Footprint\""),
        (b"Comment,Designator,JLCPCB Part #\n10k,R1,C25804\n", "supplier numbers (\"JLCPCB Part #\")"),
        (
            b"Index,Quantity,Digi-Key Part Number,Description\n1,2,X-ND,y\n",
            "supplier numbers (\"Digi-Key Part Number\")",
        ),
        (b"Mouser No,Quantity\n595-LM358,1\n", "supplier numbers (\"Mouser No\")"),
        (b"Order Code,Quantity\n3117207,1\n", "supplier numbers (\"Order Code\")"),
        // A distributor's list with a column of any name.
        (
            b"Index,Quantity,Part Number\n1,2,296-1395-5-ND\n2,1,P10KCT-ND\n",
            "\"Part Number\" (line 2: 296-1395-5-ND)",
        ),
        (b"Designator,MPN\nR1,C25804\n", "in its column \"MPN\" (line 2: C25804)"),
        (
            b"MPN,Manufacturer\nLM358,TI\n10uF,16V,C4,Murata\n",
            "1 row with more cells than the header, on line 3: the first has 4 cells, the header 2\nhint: put cells that contain a comma",
        ),
        (b"MPN;Value\nX;1;2\nY;0;\nZ;3;4\n", "2 rows with more cells than the header, on lines 2, 4: "),
        (b"MPN,Description\nLM358,\"5 display\nBSS138,x\n", "not closed: it begins in the row of line 2"),
        (
            b"MPN\n\n",
            "no line with a part number in its column \"MPN\" below line 1; skipped: 1 row, blank (line 2)",
        ),
        (b"PK\x03\x04 xl/workbook.xml", "is an Excel workbook (XLSX)\nhint: save it as \"CSV UTF-8\""),
        (b"<html><table><tr><td>MPN", "is an HTML page\nhint: "),
        (b"[{\"mpn\": \"LM358\"}]", "is a JSON file"),
        (b"MPN,Maker\nX,W\x9frth\n", "hint: choose the right one"),
    ] {
        let refusal = refusal(bytes);
        assert!(refusal.contains(expected), "{refusal}");
        assert!(refusal.contains("\nhint: "), "{refusal}");
    }
}

#[test]
fn doubts_are_warnings() {
    let text = "Ref,MPN,Manufacturer\nU1,LM358\nU2,7.43E+07,W\u{fffd}rth\nU3,1E+5,x\n";
    let bom = parse("x.csv", text.as_bytes(), None).unwrap();
    let begins: Vec<_> = bom.warnings.iter().map(|warning| warning.split(':').next().unwrap()).collect();
    assert_eq!(
        begins,
        [
            "line 2 with fewer cells than the header",
            "line 3 with U+FFFD",
            "line 3 with a part number such as 7.43E+07"
        ]
    );
}

#[test]
fn cells_with_line_breaks_keep_the_numbers_of_lines() {
    let text = "\"MPN\",\"Manu\nfacturer\"\r\n\"LM358\",\"Texas\r\nInstruments\"\r\n\r\n\"\",\"x\"\r\n";
    let bom = parse("x.csv", text.as_bytes(), None).unwrap();
    assert_eq!(lines(&bom), ["LM358 (Texas Instruments)"]);
    assert_eq!(bom.skipped.iter().map(|row| row.line).collect::<Vec<_>>(), [5, 6]);
}
