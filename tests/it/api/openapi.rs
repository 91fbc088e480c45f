//! The OpenAPI document is valid, and the live server answers as it says, whatever is asked. Both judges are from PyPI
//! (openapi-spec-validator, schemathesis); without Python and an index there is nothing to show.

use std::process::Command;

use uuid::Uuid;

use super::summaries::{aggregate, whole};
use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::python::python_with;
use crate::env::tokens::{Issuer, claims, token};

#[tokio::test(flavor = "multi_thread")]
async fn responses_match_the_openapi_document() {
    let env = TestEnv::new("document").await;
    let tenant = Uuid::new_v4();
    // Of the shapes that events have: with and without everything that may be missing.
    let fill = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, project_id, source, workflow_id, routing_key, state, payload) \
                select gen_random_uuid(), 'error', $1, $1, case when n % 2 = 0 then 'org' end, case when n % 3 = 0 then gen_random_uuid() end, \
                'staff', case when n % 5 = 0 then 'w' end, case when n % 7 = 0 then 'cns.error' end, '{\"percent\": 1e3}', \
                jsonb_build_object('error_message', E'\\u2028\"\\\\\\n\\x7f') from generate_series(1, 300) n";
    env.sql.execute(fill, &[&tenant]).await.unwrap();
    whole(&env, tenant, "w").await;
    aggregate(&env);
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let document = served.request("GET", "/openapi.json", &[]);
    assert_eq!((document.status, document.header("content-type")), (200, "application/json"));
    let Some(python) = python_with(
        "openapi",
        &["openapi-spec-validator", "schemathesis"],
        "schemathesis, openapi_spec_validator",
    ) else {
        eprintln!("python3 with schemathesis cannot be had here: the document was not judged");
        return;
    };
    let file = env.logs().join("openapi.json");
    std::fs::write(&file, &document.body).unwrap();
    let judged = Command::new(&python).args(["-m", "openapi_spec_validator"]).arg(&file).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));

    // A span that ends before it begins, or is too long, has parameters that are each valid, and is refused all the same.
    let spans = r#"
[[operations]]
include-operation-id = ["summary", "stages"]
[operations.checks.positive_data_acceptance]
expected-statuses = ["200", "400", "403"]
"#;
    std::fs::write(env.logs().join("schemathesis.toml"), spans).unwrap();
    let mut support = claims(tenant);
    support["app_metadata"] = serde_json::json!({"cns_role": "support"});
    // Support staff has to name a tenant where the document, which is every caller's, does not ask for one.
    let support =
        (Issuer::new().good("HS256", &support), &["--exclude-checks", "positive_data_acceptance"][..]);
    for (token, excluded) in [(token(tenant), &[][..]), support] {
        let run = Command::new(python.with_file_name("schemathesis"))
            .args([
                "run",
                "--no-color",
                "--checks",
                "all",
                "--max-examples",
                "60",
                "--generation-deterministic",
            ])
            .args(["--exclude-path-regex", "^/v1/stream"])
            .args(excluded)
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .arg(format!("http://{}/openapi.json", served.address))
            .current_dir(env.logs())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{said}");
        // All but the document itself, and the streams, which do not end.
        assert!(said.contains("Tested: 11"), "{said}");
        println!("{}", said.lines().filter(|line| line.contains("generated")).collect::<String>());
    }
    assert!(!served.process.log().contains("panicked"));
}
