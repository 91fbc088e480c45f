//! Every event that CNS workflows publish to RabbitMQ, stored once in PostgreSQL.

pub mod event;
