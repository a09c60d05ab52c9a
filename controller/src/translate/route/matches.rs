//! `rules[].matches`: path, method, headers and query parameters.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType,
    HttpRouteRulesMatchesMethod, HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType,
    HttpRouteRulesMatchesQueryParams, HttpRouteRulesMatchesQueryParamsType,
};
use http::{HeaderName, HeaderValue};
use portcullis_routing::{
    HeaderMatch, PathMatch, Pattern, PatternError, QueryMatch, RouteMatch, ValueMatch,
};

use super::path;
use crate::translate::{
    field::Field,
    problem::{Problem, Problems},
};

/// Longest value of a header to compare with, in bytes, by the Gateway API's schema.
const MAX_VALUE: usize = 4096;

/// The matches of a rule; those that are wrong are told and left out. Without any, a rule matches every path.
pub(super) fn translate(
    matches: Option<&[HttpRouteRulesMatches]>,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Vec<RouteMatch> {
    let matches = matches.unwrap_or_default();
    if matches.is_empty() {
        return vec![RouteMatch {
            path: every_path(),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }];
    }
    matches
        .iter()
        .enumerate()
        .filter_map(|(index, one)| route_match(one, &field.at(index), problems))
        .collect()
}

fn route_match(
    spec: &HttpRouteRulesMatches,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Option<RouteMatch> {
    let path = problems.keep(path_match(spec.path.as_ref(), &field.child("path")));
    let headers = conditions(
        spec.headers.as_deref().unwrap_or_default(),
        header_match,
        |header| &header.name,
        &field.child("headers"),
        problems,
    );
    let query = conditions(
        spec.query_params.as_deref().unwrap_or_default(),
        query_match,
        |parameter| &parameter.name,
        &field.child("queryParams"),
        problems,
    );
    let method = spec
        .method
        .as_ref()
        .map(|method| method_name(method, &field.child("method"), problems));
    Some(RouteMatch {
        path: path?,
        method,
        headers: headers?,
        query: query?,
    })
}

fn every_path() -> PathMatch {
    PathMatch::Prefix("/".into())
}

fn path_match(
    spec: Option<&HttpRouteRulesMatchesPath>,
    field: &Field<'_>,
) -> Result<PathMatch, Problem> {
    let Some(spec) = spec else {
        return Ok(every_path());
    };
    let value = spec.value.as_deref().unwrap_or("/");
    let field = field.child("value");
    let normalised = || {
        path::normalised(value).map_err(|why| {
            Problem::unsupported(
                &field,
                format!("the path {value:?} {why}"),
                "write an absolute path such as `/shop/cart`, with characters that need it percent-encoded",
            )
        })
    };
    Ok(
        match spec
            .r#type
            .as_ref()
            .unwrap_or(&HttpRouteRulesMatchesPathType::PathPrefix)
        {
            HttpRouteRulesMatchesPathType::Exact => PathMatch::Exact(normalised()?),
            HttpRouteRulesMatchesPathType::PathPrefix => {
                PathMatch::Prefix(path::without_trailing_slash(normalised()?))
            }
            HttpRouteRulesMatchesPathType::RegularExpression => {
                PathMatch::Regex(regular_expression(value, &field)?)
            }
        },
    )
}

/// The expression, if the proxy can carry it out; this compiles it, because its size is bounded too.
fn regular_expression(pattern: &str, field: &Field<'_>) -> Result<String, Problem> {
    match Pattern::new(pattern) {
        Ok(_) => Ok(pattern.to_owned()),
        Err(error) => Err(Problem::unsupported(
            field,
            format!("the regular expression {pattern:?} {}", fault(&error)),
            "write it in RE2 syntax, without look-around and back-references; it must match the whole text",
        )),
    }
}

/// What is wrong with an expression, in one line.
fn fault(error: &PatternError) -> String {
    match error {
        // The parser draws the expression with a mark below it first; its last line says what is wrong.
        PatternError::Invalid { reason, .. } => {
            let last = reason.lines().last().unwrap_or_default();
            format!("is invalid: {}", last.trim_start_matches("error: "))
        }
        PatternError::TooComplex(_) => {
            "is too complex; bounded repeats after `.*` are the usual cause".into()
        }
        PatternError::TooLong { found } => format!("is too long ({found} bytes)"),
        PatternError::TableFull => "has no room beside the others".into(),
    }
}

/// The conditions of a match on named things, or nothing if one of them is wrong. Of several with the same name only the
/// first counts: "subsequent entries MUST be ignored", says the API.
fn conditions<S, C>(
    specs: &[S],
    read: fn(&S, &Field<'_>) -> Result<C, Problem>,
    name: fn(&C) -> &str,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Option<Vec<C>> {
    let mut good: Vec<C> = Vec::with_capacity(specs.len());
    let mut all_good = true;
    for (index, spec) in specs.iter().enumerate() {
        let field = field.at(index);
        match problems.keep(read(spec, &field)) {
            Some(next) if good.iter().any(|earlier| name(earlier) == name(&next)) => {
                problems.tell(repeated(name(&next), &field));
            }
            Some(next) => good.push(next),
            None => all_good = false,
        }
    }
    all_good.then_some(good)
}

fn repeated(name: &str, field: &Field<'_>) -> Problem {
    Problem::warning(
        "RepeatedMatch",
        field,
        format!("`{name}` stands in this list already; only its first entry counts"),
        "remove one of them, or join both conditions in one regular expression",
    )
}

fn header_match(
    spec: &HttpRouteRulesMatchesHeaders,
    field: &Field<'_>,
) -> Result<HeaderMatch, Problem> {
    let name = HeaderName::from_bytes(spec.name.as_bytes()).map_err(|_| {
        Problem::unsupported(
            &field.child("name"),
            format!("{:?} is not a valid header name", spec.name),
            "use letters, digits and `-`, such as `x-version`",
        )
    })?;
    let field = field.child("value");
    let value = match spec
        .r#type
        .as_ref()
        .unwrap_or(&HttpRouteRulesMatchesHeadersType::Exact)
    {
        HttpRouteRulesMatchesHeadersType::Exact => {
            ValueMatch::Exact(header_value(&spec.value, &field)?)
        }
        HttpRouteRulesMatchesHeadersType::RegularExpression => {
            ValueMatch::Regex(regular_expression(&spec.value, &field)?)
        }
    };
    Ok(HeaderMatch {
        name: name.as_str().to_owned(),
        value,
    })
}

fn header_value(value: &str, field: &Field<'_>) -> Result<String, Problem> {
    let is_valid = HeaderValue::from_str(value).is_ok() && value.trim_matches([' ', '\t']) == value;
    if is_valid && (1..=MAX_VALUE).contains(&value.len()) {
        return Ok(value.to_owned());
    }
    Err(Problem::unsupported(
        field,
        format!("{value:?} can never be the value of a header in a request"),
        format!("write 1 to {MAX_VALUE} visible characters without blanks around them"),
    ))
}

fn query_match(
    spec: &HttpRouteRulesMatchesQueryParams,
    field: &Field<'_>,
) -> Result<QueryMatch, Problem> {
    if spec.name.is_empty() {
        return Err(Problem::unsupported(
            &field.child("name"),
            "the name of the query parameter is empty",
            "name the parameter, or remove this entry",
        ));
    }
    let value = match spec
        .r#type
        .as_ref()
        .unwrap_or(&HttpRouteRulesMatchesQueryParamsType::Exact)
    {
        HttpRouteRulesMatchesQueryParamsType::Exact => ValueMatch::Exact(spec.value.clone()),
        HttpRouteRulesMatchesQueryParamsType::RegularExpression => {
            ValueMatch::Regex(regular_expression(&spec.value, &field.child("value"))?)
        }
    };
    Ok(QueryMatch {
        name: spec.name.clone(),
        value,
    })
}

fn method_name(
    method: &HttpRouteRulesMatchesMethod,
    field: &Field<'_>,
    problems: &mut Problems,
) -> String {
    use HttpRouteRulesMatchesMethod as Method;
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        Method::Connect => "CONNECT",
        Method::Trace => "TRACE",
    };
    if matches!(method, Method::Connect | Method::Trace) {
        problems.tell(Problem::warning(
            "MethodNotServed",
            field,
            format!("the proxy answers every {name} request with 405, so this never matches"),
            "remove this match",
        ));
    }
    name.to_owned()
}
