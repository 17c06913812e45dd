//! Comparison of the compiled schema with `proto/schema.tsv`.

use std::collections::BTreeSet;

use berth_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const FACTS: &str = include_str!("../../../../proto/schema.tsv");
const HEADER: &str = "file\tkind\tparent\tname\tnumber\ttype\tcardinality\toneof\tjson_name";

#[test]
fn schema_matches_the_committed_table() {
    let mut lines = FACTS.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let committed: BTreeSet<String> = lines.map(|line| line.trim_end().to_owned()).collect();
    let compiled = compiled_facts();

    let missing: Vec<_> = committed.difference(&compiled).collect();
    let added: Vec<_> = compiled.difference(&committed).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "missing: {missing:#?}\nadded: {added:#?}"
    );
    assert!(committed.len() >= 89, "the table is incomplete");
}

#[test]
fn package_consists_of_the_files_in_the_table() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let compiled: BTreeSet<&str> = set.file.iter().map(FileDescriptorProto::name).collect();
    let expected: BTreeSet<&str> = FACTS
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .chain([
            "google/protobuf/timestamp.proto",
            "google/protobuf/empty.proto",
        ])
        .collect();
    assert_eq!(compiled, expected);
    for file in set
        .file
        .iter()
        .filter(|file| !file.name().starts_with("google/"))
    {
        assert_eq!(
            (file.package(), file.syntax()),
            ("wasmcloud.runtime.v2", "proto3")
        );
        assert!(
            file.extension.is_empty(),
            "{}: the schema has no extensions",
            file.name()
        );
    }
}

fn compiled_facts() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut facts = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| !file.name().starts_with("google/"))
    {
        for message in &file.message_type {
            if message.field.is_empty() {
                facts.insert(fact(&[file.name(), "message", "", message.name()]));
            }
            for field in &message.field {
                facts.insert(field_fact(file, message, field));
            }
        }
        for item in &file.enum_type {
            for value in &item.value {
                let number = value.number().to_string();
                let columns = [
                    file.name(),
                    "enum_value",
                    item.name(),
                    value.name(),
                    &number,
                ];
                facts.insert(fact(&columns));
            }
        }
        for service in &file.service {
            for rpc in &service.method {
                let input = rpc.input_type().trim_start_matches('.');
                let types = format!("{input} -> {}", rpc.output_type().trim_start_matches('.'));
                let streams = rpc.client_streaming() || rpc.server_streaming();
                let kind = if streams { "streaming" } else { "unary" };
                let columns = [
                    file.name(),
                    "rpc",
                    service.name(),
                    rpc.name(),
                    "",
                    &types,
                    kind,
                ];
                facts.insert(fact(&columns));
            }
        }
    }
    facts
}

fn field_fact(
    file: &FileDescriptorProto,
    message: &DescriptorProto,
    field: &FieldDescriptorProto,
) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        field
            .type_name()
            .ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    let repeated = field.label() == Label::Repeated;
    let (r#type, cardinality) = match entry {
        Some(entry) => {
            let kinds: Vec<String> = entry.field.iter().map(type_name).collect();
            (format!("map<{}>", kinds.join(",")), "map")
        }
        None => (
            type_name(field),
            if repeated { "repeated" } else { "singular" },
        ),
    };
    // An `optional` field would be a synthetic oneof, which the schema of wasmCloud does not have.
    assert!(
        !field.proto3_optional(),
        "{}.{}",
        message.name(),
        field.name()
    );
    let oneof = field.oneof_index.map_or("", |index| {
        message.oneof_decl[usize::try_from(index).unwrap()].name()
    });
    let number = field.number().to_string();
    fact(&[
        file.name(),
        "field",
        message.name(),
        field.name(),
        &number,
        &r#type,
        cardinality,
        oneof,
        field.json_name(),
    ])
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

fn fact(columns: &[&str]) -> String {
    columns.join("\t").trim_end().to_owned()
}
