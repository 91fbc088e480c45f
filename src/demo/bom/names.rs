//! Names that programs and people give to columns, normalized.

/// Words for the manufacturer.
const MAKERS: [&str; 19] = [
    "manufacturers",
    "manufacturer",
    "manufacture",
    "manufac",
    "manuf",
    "manf",
    "mnf",
    "mfgr",
    "mfg",
    "mfrs",
    "mfr",
    "mf",
    "maker",
    "oem",
    "hersteller",
    "fabricante",
    "fabricant",
    "produttore",
    "fabrikant",
];

/// Words that follow the manufacturer where the column has its part number.
const NUMBERS: [&str; 30] = [
    "partnumber",
    "partno",
    "partnum",
    "partnr",
    "partcode",
    "partid",
    "part",
    "pn",
    "number",
    "num",
    "no",
    "nr",
    "code",
    "reference",
    "ref",
    "productnumber",
    "productno",
    "itemno",
    "itemnumber",
    "articlenumber",
    "artno",
    "typ",
    "nummer",
    "teilenummer",
    "teilenr",
    "artikelnummer",
    "artikelnr",
    "bestellnummer",
    "bezeichnung",
    "partname",
];

/// Other names of manufacturer part numbers.
const PART_NUMBERS: [&str; 25] = [
    "mpn",
    "mpnno",
    "mpns",
    "mp",
    "mfpn",
    "partnumbermanufacturer",
    "partnumbermfr",
    "partnumbermfg",
    "manufacturersku",
    "référencefabricant",
    "referencefabricant",
    "réffabricant",
    "reffabricant",
    "codiceproduttore",
    "referenciafabricante",
    "referenciadelfabricante",
    "厂家型号",
    "制造商型号",
    "制造商料号",
    "制造商零件编号",
    "原厂型号",
    "厂商型号",
    "メーカー型番",
    "メーカ型番",
    "製造元部品番号",
];

/// Names that may mean a manufacturer's number, or one of the company's own.
pub(super) const PERHAPS_PART_NUMBERS: [&str; 13] = [
    "partnumber",
    "partno",
    "partnum",
    "partnr",
    "pn",
    "partcode",
    "productnumber",
    "型号",
    "规格型号",
    "型番",
    "品番",
    "teilenummer",
    "artikelnummer",
];

/// Names of the manufacturer's column beside those of `MAKERS`.
const MANUFACTURERS: [&str; 10] =
    ["brand", "make", "manufacturedby", "品牌", "制造商", "厂家", "厂商", "生产商", "メーカー", "製造元"];

/// Suppliers whose names stand in columns.
const SUPPLIERS: [&str; 19] = [
    "lcsc",
    "jlcpcb",
    "jlc",
    "digikey",
    "mouser",
    "farnell",
    "newark",
    "element14",
    "arrow",
    "avnet",
    "rs",
    "tme",
    "reichelt",
    "conrad",
    "distrelec",
    "rutronik",
    "supplier",
    "distributor",
    "vendor",
];

/// Other names of supplier numbers.
const SUPPLIER_NUMBERS: [&str; 17] = [
    "ordercode",
    "orderno",
    "ordernumber",
    "orderingcode",
    "sku",
    "stockno",
    "stockcode",
    "stocknumber",
    "spn",
    "catalogno",
    "catalognumber",
    "supplierandref",
    "bestellnummer",
    "bestellnr",
    "商品编号",
    "供应商料号",
    "供应商编号",
];

/// Names that tell a header line without being read.
pub(super) const OTHERS: [&str; 66] = [
    "reference",
    "references",
    "ref",
    "refs",
    "refdes",
    "referencedesignator",
    "referencedesignators",
    "partreference",
    "designator",
    "designators",
    "designation",
    "parts",
    "position",
    "positions",
    "location",
    "value",
    "val",
    "comment",
    "name",
    "footprint",
    "footprintname",
    "package",
    "case",
    "pcbfootprint",
    "device",
    "libref",
    "libraryreference",
    "quantity",
    "qty",
    "qnty",
    "quantities",
    "qtyperboard",
    "orderqty",
    "count",
    "menge",
    "anzahl",
    "stück",
    "数量",
    "位号",
    "封装",
    "名称",
    "item",
    "itemno",
    "itemnumber",
    "line",
    "lineno",
    "id",
    "index",
    "description",
    "desc",
    "beschreibung",
    "bauteil",
    "wert",
    "datasheet",
    "supplier",
    "suppliername",
    "vendor",
    "distributor",
    "unitprice",
    "price",
    "customerno",
    "customerreference",
    "rohs",
    "category",
    "part",
    "descripción",
];

/// Names of columns whose value says that a part is left out.
pub(super) const LEFT_OUT: [&str; 17] = [
    "dnp",
    "dnf",
    "dni",
    "dnm",
    "dns",
    "donotpopulate",
    "donotplace",
    "donotfit",
    "donotinstall",
    "donotmount",
    "donotstuff",
    "nostuff",
    "nopop",
    "notfitted",
    "notpopulated",
    "excludefrombom",
    "nichtbestücken",
];

/// Names of columns whose value says whether a part is placed.
pub(super) const PLACED: [&str; 13] = [
    "populate",
    "populated",
    "fitted",
    "fit",
    "mounted",
    "mount",
    "assemble",
    "assembled",
    "install",
    "installed",
    "place",
    "stuff",
    "bestückt",
];

/// Returns whether a column has manufacturer part numbers.
pub(super) fn is_part_number(name: &str) -> bool {
    let after_maker = |rest: &str| NUMBERS.contains(&rest);
    PART_NUMBERS.contains(&name)
        || MAKERS.iter().any(|maker| name.strip_prefix(maker).is_some_and(after_maker))
        || name.strip_prefix("mpn").is_some_and(|rest| !rest.is_empty() && is_part_number(rest))
}

/// Returns whether a column has manufacturers.
pub(super) fn is_manufacturer(name: &str) -> bool {
    MANUFACTURERS.contains(&name)
        || MAKERS.contains(&name)
        || name.strip_suffix("name").is_some_and(|rest| MAKERS.contains(&rest))
}

/// Returns whether a column has the part numbers of a supplier.
pub(super) fn is_supplier_number(name: &str) -> bool {
    let is_number = |rest: &str| {
        // The name of a supplier in general is the supplier's; the name of one is its number.
        [
            "part",
            "partno",
            "no",
            "sku",
            "code",
            "id",
            "stockno",
            "stocknumber",
            "number",
            "pn",
            "ref",
            "partnumber",
            "ordercode",
            "partnum",
            "num",
        ]
        .contains(&rest)
    };
    let named = SUPPLIERS.iter().any(|supplier| {
        name.strip_prefix(supplier).is_some_and(|rest| {
            is_number(rest)
                || rest.is_empty() && !["rs", "supplier", "distributor", "vendor"].contains(supplier)
        })
    });
    named || SUPPLIER_NUMBERS.contains(&name)
}

/// Returns a name without case, blanks and punctuation.
pub(super) fn normalized(name: &str) -> String {
    let name = name.replace(['#', '№'], "no");
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns a name without the number at its end, and the number: `mpn1` is the first of several.
pub(super) fn numbered(name: &str) -> (String, String) {
    let plain = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    // element14 is a name.
    if plain.is_empty() || plain == "element" {
        (name.to_owned(), String::new())
    } else {
        (plain.to_owned(), name[plain.len()..].to_owned())
    }
}
