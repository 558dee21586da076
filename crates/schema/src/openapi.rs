//! OpenAPI documents from types.
