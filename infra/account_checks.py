"""The checks of infra/preflight that read the AWS account."""

import concurrent.futures
import re
import secrets

# Lambda does not let reservations reduce the account's unreserved concurrency below this value.
UNRESERVED = 100
DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedException"}
# One read of each service that has a Region.
READS = {
    "AppConfig": "appconfig list-applications",
    "ApiGatewayV2": "apigatewayv2 get-apis",
    "CloudWatch": "cloudwatch describe-alarms",
    "CodeDeploy": "deploy list-applications",
    "DynamoDB": "dynamodb list-tables",
    "Events": "events list-rules",
    "KMS": "kms list-keys",
    "Lambda": "lambda list-functions",
    "Logs": "logs describe-log-groups",
    "SNS": "sns list-topics",
    "SQS": "sqs list-queues",
    "Scheduler": "scheduler list-schedules",
    "SecretsManager": "secretsmanager list-secrets",
}
UPDATABLE = {
    "CREATE_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
}
TRIED_ROUTE = "POST /a/{id}/:b"


class AwsError(Exception):
    def __init__(self, call, code, text):
        super().__init__(f"`aws {' '.join(call[:2])}` failed: {text}")
        self.code = code
        self.denied = code in DENIED


def check_services(target):
    services = sorted(target.template.services())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        faults = dict(zip(services, pool.map(lambda service: service_fault(target, service), services)))
    for service, (status, fault) in faults.items():
        if status != "ok":
            yield status, f"{service} in {target.region}: {fault}"
    if reached := [service for service, (status, _) in faults.items() if status == "ok"]:
        yield "ok", f"{len(reached)} services answer in {target.region}: {', '.join(reached)}"


def service_fault(target, service):
    """Returns the status of a service and the reason."""
    if service not in READS:
        return "skip", "this program has no read for it: look it up in the list of regional services"
    try:
        target.aws(*READS[service].split(), "--max-items", "1")
    except AwsError as error:
        # A refusal shows that the service is there.
        return ("ok", "") if error.denied else ("fail", f"{error}: choose a Region that has the service")
    return "ok", ""


def check_architecture(target):
    architecture = target.values["Architecture"]
    if architecture != "arm64":
        yield "ok", f"{architecture} is in every Region"
        return
    by_hand = "look it up at https://aws.amazon.com/lambda/pricing/"
    equal = {"regionCode": target.region, "group": "AWS-Lambda-Duration-ARM"}
    filters = [f"Type=TERM_MATCH,Field={field},Value={value}" for field, value in equal.items()]
    query = ("pricing", "get-products", "--service-code", "AWSLambda", "--filters", *filters, "--max-items", "1")
    try:
        # The price list is the only interface that shows the architectures of a Region. It is served in few Regions.
        prices = target.aws(*query, region="us-east-1")["PriceList"]
    except AwsError as error:
        yield "skip", f"arm64 in {target.region}: {error}: {by_hand}"
        return
    if prices:
        yield "ok", f"arm64 has a price in {target.region}"
    else:
        yield "fail", f"arm64 has no price in {target.region}: build for x86_64, and set Architecture=x86_64"


def check_concurrency(target):
    wanted = target.template.reserved(target.values)
    free = target.aws("lambda", "get-account-settings")["AccountLimit"]["UnreservedConcurrentExecutions"]
    if target.status:
        free += sum(own_reservation(target, name) for name in target.template.function_names(target.stack))
    if not wanted or free - wanted >= UNRESERVED:
        yield "ok", f"{free} executions are unreserved in {target.region}, and the functions reserve {wanted}"
        return
    request = "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384"
    yield "fail", (
        f"{free} executions are unreserved in {target.region}, but the functions reserve {wanted}, and Lambda keeps "
        f"{UNRESERVED} unreserved: run `{request} --desired-value 1000`, or reserve less with the parameters"
    )


def own_reservation(target, function):
    try:
        answer = target.aws("lambda", "get-function-concurrency", "--function-name", function)
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            return 0
        raise
    return answer.get("ReservedConcurrentExecutions", 0)


def check_stack(target):
    status = target.status
    if status is None:
        yield "ok", f"{target.stack} does not exist yet in {target.region}"
        yield from names_in_use(target)
    elif status in UPDATABLE:
        yield "ok", f"{target.stack} exists with status {status}, so the deployment updates it"
    elif status.endswith("IN_PROGRESS"):
        yield "fail", f"{target.stack} has status {status}: wait until the operation ends"
    else:
        yield "fail", (
            f"{target.stack} has status {status}: delete it with `aws cloudformation delete-stack --stack-name "
            f"{target.stack}`, then run this program again"
        )


def names_in_use(target):
    """Finds the state that a former stack of this name left behind, unless the new stack is given this state."""
    is_given = any(target.values[name] for name in existing_state(target))
    state = [] if is_given else [*secrets_in_use(target), *tables_in_use(target)]
    faults = [*state, *log_groups_in_use(target)]
    yield from (("fail", fault) for fault in faults)
    if not faults:
        yield "ok", f"no state of a former stack {target.stack} is in the way"


def existing_state(target):
    """Returns the parameters that take the state of a former stack."""
    return [name for name in target.template.parameters if name.startswith("Existing")]


def of_former_stack(target, thing, *deletion):
    """Returns the fault of something that a former stack left, with both ways on."""
    parameters = ", ".join(existing_state(target))
    commands = " and ".join(f"`aws {command}`" for command in deletion)
    return f"the {thing} of a former stack exists: to use it again, give the state with {parameters}; to delete it for ever, run {commands}"


def secrets_in_use(target):
    for name in target.template.names("AWS::SecretsManager::Secret", "Name", target.stack):
        try:
            secret = target.aws("secretsmanager", "describe-secret", "--secret-id", name)
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            continue
        delete = f"secretsmanager delete-secret --secret-id {name} --force-delete-without-recovery"
        if secret.get("DeletedDate"):
            restore = f"`aws secretsmanager restore-secret --secret-id {name}`"
            yield f"the secret {name} waits for its deletion, so its name is taken: run {restore} or `aws {delete}`"
        else:
            yield of_former_stack(target, f"secret {name}", delete)


def tables_in_use(target):
    former = re.compile(rf"{re.escape(target.stack)}-({'|'.join(target.template.of_type('AWS::DynamoDB::Table'))})-\w+")
    for name in target.aws("dynamodb", "list-tables")["TableNames"]:
        if former.fullmatch(name):
            unprotect = f"dynamodb update-table --table-name {name} --no-deletion-protection-enabled"
            yield of_former_stack(target, f"table {name}", unprotect, f"dynamodb delete-table --table-name {name}")


def log_groups_in_use(target):
    names = target.template.names("AWS::Logs::LogGroup", "LogGroupName", target.stack)
    prefixes = {name[: name.index(target.stack) + len(target.stack)] for name in names}
    for prefix in sorted(prefixes):
        for group in target.aws("logs", "describe-log-groups", "--log-group-name-prefix", prefix)["logGroups"]:
            if (name := group["logGroupName"]) in names:
                delete = f"`aws logs delete-log-group --log-group-name {name}`"
                yield f"the log group {name} exists, so its name is taken: save its lines, then run {delete}"


def check_rules_layer(target):
    layer = target.values.get("AuthorizerRulesLayer")
    if layer:
        target.aws("lambda", "get-layer-version-by-arn", "--arn", layer)
    yield "ok", layer or "none is set, so the authorizer has its built-in routes only"


def check_trail(target):
    unreadable = []
    for trail in target.aws("cloudtrail", "describe-trails")["trailList"]:
        if not trail.get("IsMultiRegionTrail") and trail.get("HomeRegion") != target.region:
            continue
        try:
            if records_management_events(target, trail["TrailARN"]):
                yield "ok", f"{trail['TrailARN']} records management events"
                return
        except AwsError as error:
            if not error.denied:
                raise
            unreadable.append(trail["TrailARN"])
    effect = "without one, a failed rotation raises no event"
    if unreadable:
        yield "skip", f"{', '.join(unreadable)} cannot be read: check with its owner that it records writes; {effect}"
    else:
        yield "fail", (
            f"no trail records the management events of {target.region}, and {effect}: make one with `aws cloudtrail "
            "create-trail --is-multi-region-trail`, and start it with `aws cloudtrail start-logging`"
        )


def records_management_events(target, trail):
    """Whether the trail is on and records the writes of management events."""
    if not target.aws("cloudtrail", "get-trail-status", "--name", trail)["IsLogging"]:
        return False
    selectors = target.aws("cloudtrail", "get-event-selectors", "--trail-name", trail)
    basic = selectors.get("EventSelectors") or []
    if any(item.get("IncludeManagementEvents") and item.get("ReadWriteType") != "ReadOnly" for item in basic):
        return True
    return any(advanced(item["FieldSelectors"]) for item in selectors.get("AdvancedEventSelectors") or [])


def advanced(fields):
    """Whether an advanced selector takes the writes of all management events."""
    by_name = {field["Field"]: field for field in fields}
    return (
        by_name.get("eventCategory", {}).get("Equals") == ["Management"]
        and by_name.get("readOnly", {}).get("Equals") in (None, ["false"])
        and not set(by_name) - {"eventCategory", "readOnly"}
    )


def check_route_key(target):
    if not target.try_api:
        yield "skip", "a route with a colon was not tried: add --try-api, which makes an HTTP API and deletes it again"
        return
    name = f"preflight-{secrets.token_hex(8)}"
    api = target.aws("apigatewayv2", "create-api", "--name", name, "--protocol-type", "HTTP")["ApiId"]
    try:
        target.aws("apigatewayv2", "create-route", "--api-id", api, "--route-key", TRIED_ROUTE)
        yield "ok", f"API Gateway accepts the route key {TRIED_ROUTE}"
    except AwsError as error:
        yield "fail", f"API Gateway refuses the route key {TRIED_ROUTE}: {error}: see check 1 in docs/deploy.md"
    finally:
        try:
            target.aws("apigatewayv2", "delete-api", "--api-id", api)
        except AwsError as error:
            yield "fail", f"the API {name} is still there: {error}: delete it with its id, {api}"


CHECKS = {
    "services": check_services,
    "arm64": check_architecture,
    "concurrency": check_concurrency,
    "stack": check_stack,
    "rules layer": check_rules_layer,
    "trail": check_trail,
    "route key": check_route_key,
}


def findings(target):
    """Yields (status, check, text) of every check. The checks run at the same time, because a call takes a second."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for name, found in zip(CHECKS, pool.map(lambda check: made(check, target), CHECKS.values())):
            yield from ((status, name, text) for status, text in found)


def made(check, target):
    """Returns the findings of a check. A check that the principal may not make is skipped."""
    try:
        return list(check(target))
    except AwsError as error:
        return [("skip", f"{error}: allow it, or check this point by hand") if error.denied else ("fail", str(error))]
