"""The rules for alarms, notifications and costs."""

import json

from rules.reading import resources, rule, target


@rule
def notifications_arrive(template):
    """EventBridge publishes only through a statement without a condition. A notification that is lost leaves a trace."""
    policies = dict(
        (target(topic), policy["PolicyDocument"]["Statement"])
        for _, policy, _ in resources(template, "AWS::SNS::TopicPolicy")
        for topic in policy["Topics"]
    )
    for name, _, _ in resources(template, "AWS::SNS::Topic"):
        if not any(refuses_plain_text(statement) for statement in policies.get(name, [])):
            yield f"{name} accepts messages without TLS"
    queues = {
        target(queue): policy["PolicyDocument"]["Statement"]
        for _, policy, _ in resources(template, "AWS::SQS::QueuePolicy")
        for queue in policy["Queues"]
    }
    for name, _, _ in resources(template, "AWS::SQS::Queue"):
        if not any(refuses_plain_text(statement) for statement in queues.get(name, [])):
            yield f"{name} accepts messages without TLS"
    for name, rule_, _ in resources(template, "AWS::Events::Rule"):
        for receiver in rule_["Targets"]:
            admitted = [
                statement
                for statement in policies.get(target(receiver["Arn"]), [])
                if statement["Effect"] == "Allow" and statement["Principal"] == {"Service": "events.amazonaws.com"}
            ]
            if not admitted or any("Condition" in statement for statement in admitted):
                yield f"{name}: the topic does not admit EventBridge without a condition"
            letters = queues.get(target(receiver.get("DeadLetterConfig", {}).get("Arn")), [])
            if not any(name in json.dumps(statement.get("Condition")) for statement in letters):
                yield f"{name} has no dead-letter queue that admits it"


def refuses_plain_text(statement):
    return statement["Effect"] == "Deny" and statement.get("Condition") == {"Bool": {"aws:SecureTransport": False}}


@rule
def costs_are_bounded(template):
    for name, budget, resource in resources(template, "AWS::Budgets::Budget"):
        if resource.get("Condition") != "HasBudget" or len(budget.get("NotificationsWithSubscribers", [])) < 2:
            yield f"{name} does not notify AlarmEmail"
    fields = json.loads(template["Resources"]["Stage"]["Properties"]["AccessLogSettings"]["Format"])
    patterns = [filter_["FilterPattern"] for _, filter_, _ in resources(template, "AWS::Logs::MetricFilter")]
    if '{ $.status = "429" }' not in patterns or fields.get("status") != "$context.status":
        yield "no filter counts the throttled requests"


@rule
def alarms_watch_everything(template):
    watched = {
        (target(dimension["Value"]), str(metric["MetricName"]))
        for _, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")
        for metric in metrics(alarm)
        for dimension in metric.get("Dimensions", [{"Value": {"Ref": "account"}}])
    }
    wanted = {(name, "Errors") for name, _, _ in resources(template, "AWS::Lambda::Function")} | {
        ("AuthorizerFunction", "Throttles"),
        ("AuthorizerFunction", "Duration"),
        ("RotateKeysFunction", "Duration"),
        ("RecordEndsFunction", "IteratorAge"),
        ("Api", "4xx"),
        ("Api", "5xx"),
        ("Api", "Count"),
        ("Api", "Latency"),
        ("Table", "ReadThrottleEvents"),
        ("Table", "WriteThrottleEvents"),
        ("Table", "SystemErrors"),
        ("AssignmentsTable", "ReadThrottleEvents"),
        ("account", "ClaimedAccountConcurrency"),
        ("DeadLetters", "ApproximateNumberOfMessagesVisible"),
        ("EnsureKeysGroup", "TargetErrorCount"),
        ("RotationFailed", "FailedInvocations"),
        ("KeysReplaced", "FailedInvocations"),
        ("ResourceId", "SigningKeysAge"),
    }
    for name, metric in sorted(wanted - watched):
        yield f"{name} has no alarm for {metric}"
    counted = [
        {"Fn::Sub": made["MetricName"]["Fn::Sub"]}
        for _, filter_, _ in resources(template, "AWS::Logs::MetricFilter")
        for made in filter_["MetricTransformations"]
    ]
    alarms = [alarm for _, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")]
    names = [metric["MetricName"] for alarm in alarms for metric in metrics(alarm)]
    if not counted or any(name not in names for name in counted):
        yield "the throttled requests have no alarm"


@rule
def alarms_tell_begin_and_end(template):
    for name, alarm, _ in resources(template, "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        if not alarm.get("AlarmActions") or alarm.get("AlarmActions") != alarm.get("OKActions"):
            yield f"{name} does not tell its begin and its end"
    absent = [
        name
        for name, alarm, _ in resources(template, "AWS::CloudWatch::Alarm")
        if alarm.get("TreatMissingData") == "breaching"
    ]
    if absent != ["KeyAge"]:
        yield f"the alarms of absence are {absent}"
    pages = [alarm for _, alarm, _ in resources(template, "AWS::CloudWatch::CompositeAlarm")]
    if [[target(topic) for topic in alarm["AlarmActions"]] for alarm in pages] != [["PageTopic"]]:
        yield "no composite alarm goes to the page topic"


def metrics(alarm):
    """Returns every metric of an alarm."""
    if "MetricName" in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
