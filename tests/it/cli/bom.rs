//! BOM files as programs and people write them, through `demo`: each is read, or refused at once with a reason and a fix.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::env::snapshot::{assert_text, run};
use crate::env::{TestEnv, Worker, output_text};

/// Folder of the files, from the repository's root. Snapshots show the paths.
const FOLDER: &str = "tests/inputs/bom";

/// Lines of the files that hold the same five parts.
const FIVE: [(&str, &str); 5] = [
    ("STM32F407VGT6", "STMicroelectronics"),
    ("RC0603FR-0710KL", "Yageo"),
    ("CL05B104KO5NNNC", "Samsung"),
    ("503398-1892", "Molex"),
    ("74279265", "Würth Elektronik"),
];
const TWO: [(&str, &str); 2] = [("LM358DR", "Texas Instruments"), ("BSS138", "onsemi")];

/// Returns `demo --bom FILE`, without servers: a refusal does not need them.
fn demo(file: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["demo", "--bom", file])
        .env_remove("CNS_EVENTS_PROFILE")
        .env("AMQP_URL", "amqp://u@127.0.0.1:9/")
        .env("DATABASE_URL", "postgres://u@127.0.0.1:9/d");
    command
}

/// An environment with a worker, and the parts that the demo's events name.
struct Demo {
    env: TestEnv,
    _worker: Worker,
}

impl Demo {
    async fn start(name: &str) -> Demo {
        let env = TestEnv::new(name).await;
        let worker = env.worker().await;
        Demo { env, _worker: worker }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.command();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("demo").args(arguments);
        command
    }

    /// Runs the demo with these arguments, which succeeds, and returns its report and the parts that are stored.
    async fn stored(&self, arguments: &[&str], stdin: Option<&Path>) -> (Value, Vec<String>) {
        let mut command = self.command(&[arguments, &["--json"]].concat());
        if let Some(path) = stdin {
            command.stdin(Stdio::from(std::fs::File::open(path).unwrap()));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", output_text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = self
            .env
            .sql
            .query(
                "select distinct payload->>'mpn' from enrichment_events
                 where event_type = 'enrichment_progress' and bom_id::text = $1 order by 1",
                &[&report["bom_id"].as_str().unwrap()],
            )
            .await
            .unwrap();
        (report, rows.iter().map(|row| row.get(0)).collect())
    }

    /// Returns the manufacturers that are stored.
    async fn manufacturers(&self) -> Vec<String> {
        let select = "select distinct payload->'match_details'->>'manufacturer' from enrichment_events
                      where event_type = 'enrichment_progress' order by 1";
        self.env.sql.query(select, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

fn sorted(parts: &[(&str, &str)]) -> Vec<String> {
    let mut parts: Vec<_> = parts.iter().map(|(mpn, _)| (*mpn).to_owned()).collect();
    parts.sort();
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_programs_are_read() {
    let demo = Demo::start("bomfiles").await;
    for (file, parts, encoding, header_line) in [
        ("utf16le-tab.tsv", &FIVE[..], "UTF-16LE", 1),
        ("cp1252.csv", &FIVE, "windows-1252", 1),
        ("preamble.csv", &FIVE, "UTF-8", 6),
        ("mfr-hash.csv", &TWO, "UTF-8", 1),
        ("mpn-1.csv", &TWO, "UTF-8", 1),
        ("eagle-mf-mp.csv", &TWO, "UTF-8", 1),
        ("sep-line.csv", &TWO, "UTF-8", 2),
        // Siblings: the same tables as other programs save them.
        ("utf16be.csv", &FIVE, "UTF-16BE", 1),
        ("utf16le-without-mark.csv", &FIVE, "UTF-16LE", 1),
        ("utf8-mark-cr.csv", &FIVE, "UTF-8", 1),
        ("altium.csv", &TWO, "UTF-8", 1),
        ("kicad.csv", &TWO, "UTF-8", 1),
    ] {
        let (report, stored) = demo.stored(&["--bom", &format!("{FOLDER}/{file}")], None).await;
        assert_eq!(stored, sorted(parts), "{file}");
        assert_eq!(report["bom"]["lines"], parts.len(), "{file}");
        assert_eq!(report["bom"]["encoding"], encoding, "{file}");
        assert_eq!(report["bom"]["header_line"], header_line, "{file}");
        assert_eq!(report["bom"]["warnings"], json!([]), "{file}");
    }
    let makers = demo.manufacturers().await;
    assert_eq!(
        makers,
        [
            "Molex",
            "STMicroelectronics",
            "Samsung",
            "Texas Instruments",
            "Würth Elektronik",
            "Yageo",
            "onsemi"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_can_be_asked_for_and_stdin_is_a_file() {
    let demo = Demo::start("bomasked").await;
    for (file, encoding, part) in [
        ("macintosh.csv", "macintosh", "74279265"),
        ("gbk.csv", "GBK", "GRM155R71C104KA88D"),
        ("shift-jis.csv", "shift-jis", "GRM155R71C104KA88D"),
    ] {
        let path = format!("{FOLDER}/{file}");
        let (_, stored) = demo.stored(&["--bom", &path, "--encoding", encoding], None).await;
        assert!(stored.contains(&part.to_owned()), "{stored:?}");
    }
    let makers = demo.manufacturers().await;
    for maker in ["Würth Elektronik", "村田", "村田製作所"] {
        assert!(makers.contains(&maker.to_owned()), "{maker}: {makers:?}");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("cp1252.csv");
    let (report, stored) = demo.stored(&["--bom", "-"], Some(&path)).await;
    assert_eq!((stored, &report["bom"]["name"]), (sorted(&FIVE), &json!("stdin")));
}

/// The text and the JSON both name the rows that are no lines of the BOM.
#[tokio::test(flavor = "multi_thread")]
async fn skipped_rows_are_as_recorded() {
    let demo = Demo::start("bomskipped").await;
    let path = format!("{FOLDER}/skipped-rows.csv");
    let text = run(&mut demo.command(&["--bom", &path]));
    let head: Vec<_> = text.lines().take_while(|line| !line.starts_with('┌')).collect();
    let stderr: Vec<_> = text.lines().skip_while(|line| *line != "--- stderr").collect();
    assert_text("cli", "bom-skipped-rows", Some(&demo.env), &[head, stderr].concat().join("\n"));
    let (report, stored) = demo.stored(&["--bom", &path], None).await;
    assert_eq!(stored, ["BSS138", "LM358DR"]);
    assert_text("cli", "bom-skipped-rows-json", Some(&demo.env), &format!("{:#}", report["bom"]));
}

/// No server is asked: the reason is the file's, and comes at once.
#[test]
fn refused_files_are_as_recorded() {
    let mut text = String::new();
    for file in [
        "supplier-numbers-only.csv",
        "no-header.csv",
        "shifted-rows.csv",
        // Siblings.
        "digi-key-cart.csv",
        "open-quote.csv",
        "macintosh.csv",
        "gbk.csv",
        "mixed-encodings.csv",
        "empty.csv",
        "page.csv",
        "workbook.xlsx",
        "missing.csv",
        "",
    ] {
        text.push_str(&run(&mut demo(&format!("{FOLDER}/{file}"))));
    }
    let mut other_mark = demo(&format!("{FOLDER}/utf16le-tab.tsv"));
    text.push_str(&run(other_mark.args(["--encoding", "gbk"])));
    let mut unknown = demo(&format!("{FOLDER}/gbk.csv"));
    text.push_str(&run(unknown.args(["--encoding", "klingon"])));
    assert_text("cli", "bom-refused", None, &text);
}
