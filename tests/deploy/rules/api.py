"""The rules for the API."""

import json
import re

from rules.reading import OTHER_PATHS, branches, integration_of, listed, resources, rule, target

SEGMENT = re.compile(r":?[A-Za-z0-9._-]+|\{[A-Za-z]+\}")


@rule
def routes_can_be_served(template):
    integrations = {name: properties for name, properties, _ in resources(template, "AWS::ApiGatewayV2::Integration")}
    for name, integration in integrations.items():
        if integration.get("PayloadFormatVersion") != "2.0" or integration.get("IntegrationType") != "AWS_PROXY":
            yield f"{name} does not use payload 2.0"
    for name, route, _ in resources(template, "AWS::ApiGatewayV2::Route"):
        if integration_of(route) not in integrations:
            yield f"{name} has no integration"
        if route["RouteKey"] == OTHER_PATHS:
            continue
        verb, _, path = route["RouteKey"].partition(" ")
        if verb != "ANY":
            yield f"{name}: {verb} leaves other methods of {path} without an answer"
        if not path.startswith("/") or not all(SEGMENT.fullmatch(segment) for segment in path[1:].split("/")):
            yield f"{name}: {path} is not a valid path"


@rule
def other_paths_are_answered(template):
    """A path without a route needs an audit line too. The function that answers can read no secret."""
    others = [route for _, route, _ in resources(template, "AWS::ApiGatewayV2::Route") if route["RouteKey"] == OTHER_PATHS]
    if [integration_of(route) for route in others] != ["KeysIntegration"]:
        yield "keys does not answer for the paths without a route"


@rule
def api_has_an_address_of_its_own(template):
    for name, api, _ in resources(template, "AWS::ApiGatewayV2::Api"):
        if api.get("DisableExecuteApiEndpoint") != {"Fn::If": ["HasDomain", {"Ref": "DisableExecuteApiEndpoint"}, False]}:
            yield f"{name} turns its only name off, or keeps a second one"
        if api.get("IpAddressType") != "dualstack":
            yield f"{name} has no IPv6 address"
    for name, domain, _ in resources(template, "AWS::ApiGatewayV2::DomainName"):
        for configuration in domain["DomainNameConfigurations"]:
            if (configuration.get("IpAddressType"), configuration.get("SecurityPolicy")) != ("dualstack", "TLS_1_2"):
                yield f"{name} has no IPv6 address or an old protocol"
        if target(branches(domain.get("MutualTlsAuthentication"))[0].get("TruststoreUri")) != "MutualTlsTruststoreUri":
            yield f"{name} cannot require client certificates"


@rule
def functions_answer_preflights(template):
    for name, api, _ in resources(template, "AWS::ApiGatewayV2::Api"):
        if "CorsConfiguration" in api:
            yield f"{name} drops the CORS headers of its functions"


@rule
def stage_is_the_default(template):
    keys = {route["RouteKey"]: name for name, route, _ in resources(template, "AWS::ApiGatewayV2::Route")}
    for name, stage, resource in resources(template, "AWS::ApiGatewayV2::Stage"):
        if stage.get("StageName") != "$default" or stage.get("AutoDeploy") is not True:
            yield f"{name} is not the stage $default with automatic deployment"
        limits = [stage.get("DefaultRouteSettings", {}), *stage.get("RouteSettings", {}).values()]
        if not all({"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= set(limit) for limit in limits):
            yield f"{name} has routes without a throttle"
        for key in stage.get("RouteSettings", {}):
            if keys.get(key) not in listed(resource.get("DependsOn", [])):
                yield f"{name} has settings for {key}, but does not wait for it"


@rule
def access_log_is_quiet(template):
    for name, stage, _ in resources(template, "AWS::ApiGatewayV2::Stage"):
        text = stage.get("AccessLogSettings", {}).get("Format", "")
        try:
            fields = json.loads(text)
        except ValueError:
            yield f"{name}: the access log is not JSON"
            continue
        for field in fields.values():
            if re.search(r"authoriz|header|path|querystring|useragent", field, re.IGNORECASE):
                yield f"{name}: the access log holds {field}"
        for wanted in ("requestId", "awsEndpointRequestId", "integration.requestId", "error.message", "status"):
            if f"$context.{wanted}" not in fields.values():
                yield f"{name}: the access log has no {wanted}"
