// @generated automatically by Diesel CLI.

diesel::table! {
    enrichment_events (id) {
        id -> Uuid,
        #[max_length = 255]
        event_id -> Varchar,
        #[max_length = 100]
        event_type -> Varchar,
        #[max_length = 255]
        routing_key -> Nullable<Varchar>,
        bom_id -> Uuid,
        tenant_id -> Uuid,
        organization_id -> Nullable<Text>,
        project_id -> Nullable<Uuid>,
        user_id -> Nullable<Uuid>,
        #[max_length = 20]
        source -> Varchar,
        #[max_length = 255]
        workflow_id -> Nullable<Varchar>,
        state -> Jsonb,
        payload -> Jsonb,
        created_at -> Timestamptz,
    }
}
