//! RequestMirror.
