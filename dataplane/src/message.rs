//! Heads of messages without any field: what the proxy's own heads begin with.

use http::{Method, Request, Response, StatusCode, request, response};

/// A request's head: `/`, HTTP/1.1.
pub(crate) fn request_head(method: Method) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = method;
    head
}

/// A response's head: HTTP/1.1.
pub(crate) fn response_head(status: StatusCode) -> response::Parts {
    let mut head = Response::new(()).into_parts().0;
    head.status = status;
    head
}

#[cfg(test)]
pub(crate) mod testing {
    //! Heads for tests.

    use http::{HeaderName, HeaderValue, Request, request};

    /// The head of a request.
    pub(crate) fn request(
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
    ) -> request::Parts {
        let request = Request::builder().method(method).uri(target).body(());
        let mut head = request.expect("a request").into_parts().0;
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = HeaderValue::from_str(value).expect("a value");
            head.headers.append(name, value);
        }
        head
    }
}
