//! What a custom resource definition makes of a custom resource, beyond what every resource has.

use schema::{Object, Value};

/// The rules that a definition states for one version.
#[derive(Debug)]
pub struct CustomRules {
    /// Whether `status` is a subresource.
    pub has_status: bool,
    /// The paths of the `scale` subresource: specification, status and label selector, as in the definition.
    pub scale: Option<ScalePaths>,
    /// `additionalPrinterColumns`.
    pub columns: Vec<PrinterColumn>,
    /// `selectableFields`: JSON paths such as `.spec.color`.
    pub selectable: Vec<String>,
}

/// The paths of a `scale` subresource, such as `.spec.replicas`.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    /// `specReplicasPath`
    pub spec: String,
    /// `statusReplicasPath`
    pub status: String,
    /// `labelSelectorPath`
    pub selector: Option<String>,
}

/// A column of `kubectl get`, read by a JSON path.
#[derive(Debug, Clone)]
pub struct PrinterColumn {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub ty: String,
    /// Such as `.spec.size`.
    pub path: String,
    /// 0: always shown.
    pub priority: i64,
}

/// The value at a simple JSON path (`.a.b.c`).
pub fn at_path<'o>(object: &'o Object, path: &str) -> Option<&'o Value> {
    let parts: Vec<&str> = path.trim_start_matches('.').split('.').filter(|part| !part.is_empty()).collect();
    object.at(&parts)
}

impl CustomRules {
    /// Fills in the defaults of the schema.
    pub fn apply_defaults(&self, object: &mut Object) {
        schema::crd::apply_defaults(object);
    }

    /// Everything that the schema finds wrong.
    pub fn validate(&self, object: &Object, errors: &mut kinds::field::Errors) {
        use kinds::field::{Error, ErrorType};
        for found in schema::crd::validate(object) {
            let kind = match found.kind {
                schema::crd::FieldErrorKind::Required => ErrorType::Required,
                schema::crd::FieldErrorKind::NotSupported => ErrorType::NotSupported,
                schema::crd::FieldErrorKind::Duplicate => ErrorType::Duplicate,
                schema::crd::FieldErrorKind::TooLong => ErrorType::TooLong,
                schema::crd::FieldErrorKind::TooMany => ErrorType::TooMany,
                schema::crd::FieldErrorKind::TypeInvalid => ErrorType::TypeInvalid,
                schema::crd::FieldErrorKind::Forbidden => ErrorType::Forbidden,
                _ => ErrorType::Invalid,
            };
            let path = kinds::field::Path::new(&found.path);
            errors.0.push(Error { path, kind, value: found.value, detail: found.detail });
        }
    }
}

impl PrinterColumn {
    /// The value of the column, as the API sends it.
    pub fn cell(&self, object: &Object, now: i64) -> serde_json::Value {
        let Some(value) = at_path(object, &self.path) else { return serde_json::Value::Null };
        match (self.ty.as_str(), value) {
            ("date", Value::Time(time)) => kinds::meta::duration(now - time.as_second()).into(),
            ("date", Value::Str(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(time) => kinds::meta::duration(now - time.as_second()).into(),
                Err(_) => "<invalid>".into(),
            },
            (_, Value::Int(number)) => (*number).into(),
            (_, Value::Float(number)) => (*number).into(),
            (_, Value::Bool(flag)) => (*flag).into(),
            (_, Value::Str(text)) => text.as_str().into(),
            (_, Value::Time(time)) => time.to_string().into(),
            _ => serde_json::Value::Null,
        }
    }
}
