"""The rules for schedules."""

import re

from rules.reading import listed, resolved, resources, rule, target


@rule
def rotations_are_scheduled(template):
    permissions = {
        name: target(permission.get("SourceArn"))
        for name, permission, _ in resources(template, "AWS::Lambda::Permission")
        if permission.get("Principal") == "secretsmanager.amazonaws.com" and permission.get("SourceAccount")
    }
    for name, rotation, resource in resources(template, "AWS::SecretsManager::RotationSchedule"):
        expression = resolved(template, rotation.get("RotationRules", {}).get("ScheduleExpression"))
        if fault := rotation_fault(expression):
            yield f"{name}: {expression}: {fault}"
        if fault := window_fault(expression, resolved(template, rotation.get("RotationRules", {}).get("Duration"))):
            yield f"{name}: {fault}"
        if resolved(template, rotation.get("RotateImmediatelyOnUpdate")) != "false":
            yield f"{name} revokes every token when its schedule changes"
        waits_for = [permissions.get(dependency) for dependency in listed(resource.get("DependsOn", []))]
        if target(rotation.get("SecretId")) not in waits_for:
            yield f"{name} does not wait for the permission to invoke the function"


@rule
def schedules_are_delivered(template):
    for name, schedule, _ in resources(template, "AWS::Scheduler::Schedule"):
        if not re.fullmatch(r"rate\([1-9][0-9]* (minutes|hours|days)\)", schedule.get("ScheduleExpression", "")):
            yield f"{name}: {schedule.get('ScheduleExpression')} is not a rate"
        delivery = schedule.get("Target", {})
        if not delivery.get("RetryPolicy") or not target(delivery.get("DeadLetterConfig", {}).get("Arn")):
            yield f"{name} has no retries or no dead-letter queue"


DAYS_OF_WEEK = {day: number for number, day in enumerate("SUN MON TUE WED THU FRI SAT".split(), 1)}
MONTHS = {month: number for number, month in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
SHORTEST_INTERVAL_HOURS = 4


def rotation_fault(expression):
    """Returns the reason why Secrets Manager would refuse this expression, or None."""
    match = re.fullmatch(r"cron\((.+)\)", str(expression))
    fields = match.group(1).split(" ") if match else []
    if len(fields) != 6:
        return "not cron(<six fields>)"
    minute, hour, day, month, weekday, year = fields
    if minute != "0" or year != "*":
        return "a rotation begins on the hour, in any year"
    if (day == "?") == (weekday == "?"):
        return "exactly one of the two days must be ?"
    try:
        hours = values(hour, 0, 23)
        values(month, 1, 12, MONTHS)
        values(day.replace("L", "1").replace("W", ""), 1, 31) if weekday == "?" else None
        values(weekday.replace("L", "").partition("#")[0], 1, 7, DAYS_OF_WEEK) if day == "?" else None
    except ValueError as fault:
        return str(fault)
    following = [*hours[1:], hours[0] + 24]
    if any(later - earlier < SHORTEST_INTERVAL_HOURS for earlier, later in zip(hours, following)):
        return f"more often than every {SHORTEST_INTERVAL_HOURS} hours"
    return None


def window_fault(expression, window):
    """Returns the reason why Secrets Manager would refuse this window, or None. Without one, the window is the UTC day."""
    match = re.fullmatch(r"([1-9]|1[0-9]|2[0-4])h", str(window))
    if not match:
        return f"the window {window} is not 1h to 24h"
    try:
        hours = values(str(expression).removeprefix("cron(").split(" ")[1], 0, 23)
    except (IndexError, ValueError):
        return None
    if hours[-1] + int(match.group(1)) > 24:
        return f"the window {window} reaches into the next day"
    if any(later - earlier < int(match.group(1)) for earlier, later in zip(hours, hours[1:])):
        return f"the window {window} reaches into the next one"
    return None


def values(field, lowest, highest, names=()):
    """Returns the values of one cron field, in order."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = (lowest, highest) if first == "*" else (number(first, names), number(last or first, names))
        if step and not last:
            high = highest
        if not lowest <= low <= high <= highest:
            raise ValueError(f"{part} is not within {lowest} to {highest}")
        found.update(range(low, high + 1, number(step or "1", ())))
    return sorted(found)


def number(text, names):
    if text in names:
        return names[text]
    if not text.isdigit():
        raise ValueError(f"{text or 'an empty text'} is not a number")
    return max(int(text), 0)
