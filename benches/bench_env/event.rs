//! The events that benchmarks publish.

use uuid::Uuid;

/// One event of about 760 bytes.
pub struct BenchEvent {
    pub id: String,
    bom: Uuid,
    tenant: Uuid,
    created_at: String,
    pub state: String,
    pub payload: String,
}

impl BenchEvent {
    /// Returns the event of this number, as a busy evening has it: 400 workflows at once.
    pub fn number(n: usize) -> BenchEvent {
        BenchEvent::of(n, 400)
    }

    /// Returns the event of this number; its id is new each time. So many workflows of 40 tenants are mixed.
    pub fn of(n: usize, workflows: usize) -> BenchEvent {
        let scattered = |seed: usize, of: &[u8]| {
            let mixed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            Uuid::new_v5(&Uuid::NAMESPACE_OID, &[of, &mixed].concat())
        };
        let workflow =
            (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % workflows + n / 100_000 * workflows;
        let id = Uuid::now_v7().to_string();
        let bom = scattered(workflow, b"bom");
        let tenant = scattered(workflow % 40, b"tenant");
        let state = format!(
            r#"{{"status":"running","current_stage":"enrichment","total_items":500,"completed_items":{},"failed_items":3,"percent":{}}}"#,
            n % 500,
            n % 100
        );
        // A catalogue of 50,000 parts: what belongs to a part comes again with it, stock and price do not.
        let part = (n as u64).wrapping_mul(0xd134_2543_de82_ef95) as usize % 50_000;
        let payload = format!(
            r#"{{"mpn":"C{part:05}-{}","status":"matched","confidence":0.{:03},"supplier":"{}","match_details":{{"manufacturer":"Maker {}","description":"Capacitor {part} nF {} V X7R, automotive grade","lifecycle":"{}","stock":{},"price":"{}.{:04}","currency":"EUR"}}}}"#,
            part % 97,
            n % 1000,
            ["DigiKey", "Mouser", "Farnell", "Arrow", "Avnet"][n % 5],
            part % 300,
            part % 63,
            ["active", "nrnd", "obsolete", "preview"][part % 4],
            n.wrapping_mul(7919) % 1_000_000,
            n % 90,
            n.wrapping_mul(31) % 10_000
        );
        let created_at = format!(
            "2026-01-02T{:02}:{:02}:{:02}.{:03}Z",
            n / 3_600_000 % 24,
            n / 60_000 % 60,
            n / 1000 % 60,
            n % 1000
        );
        BenchEvent { id, bom, tenant, created_at, state, payload }
    }

    /// Returns the same event, created now.
    pub fn now(self) -> BenchEvent {
        BenchEvent {
            created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            ..self
        }
    }

    /// Returns the message body.
    pub fn body(&self) -> Vec<u8> {
        format!(
            r#"{{"event_id":"{}","event_type":"enrichment_progress","bom_id":"{}","tenant_id":"{}","organization_id":"{}","source":"customer","workflow_id":"enrich-bom-{}","state":{},"payload":{},"created_at":"{}"}}"#,
            self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .into_bytes()
    }

    /// Writes a line of COPY's text format; nothing in these events has to be escaped.
    pub fn line(&self, out: &mut String) {
        use std::fmt::Write as _;
        writeln!(
            out,
            "{}\t{}\tenrichment_progress\tcns.enrichment.progress\t{}\t{}\t{}\t\\N\t\\N\tcustomer\tenrich-bom-{}\t{}\t{}\t{}",
            Uuid::now_v7(), self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .unwrap();
    }
}
