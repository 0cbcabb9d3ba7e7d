"""Whether scaling scales what it names, how requests are spread, and load tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.handoff.scaling import COMPONENT_COPIES, METRICS, VARIANT_INSTANCES, VARIANT_PROVISIONED

if TYPE_CHECKING:
    from builder.handoff.rule import Problems, World

_RESOURCES: Final = {
    VARIANT_INSTANCES: "endpoint/",
    VARIANT_PROVISIONED: "endpoint/",
    COMPONENT_COPIES: "inference-component/",
}
_INVOCATIONS_LIMIT: Final = 30_000
_LONGEST_JOB_SECONDS: Final = 18_000
_TRANSFORM_MB: Final = 100
_PHASE_LIMITS: Final = {"InitialNumberOfUsers": (1, 3), "SpawnRate": (0, 3), "DurationInSeconds": (120, 3600)}
_API: Final = "application-autoscaling API, MetricType and ScalableDimension"


def _metric(policy: dict[str, Any]) -> str:
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    return str(tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType", ""))


@rule(
    "H12",
    ERROR,
    "metric, dimension and resource of a scaling policy belong together",
    why="with a metric of something else, or of a resource that nobody registered, nothing ever scales",
    source=_API,
)
def belong_together(world: World) -> Problems:
    targets = list(world.plan.of("RegisterScalableTarget"))
    registered = {(one.get("ResourceId"), one.get("ScalableDimension")) for one in targets}
    for one in (*targets, *world.plan.of("PutScalingPolicy")):
        dimension, resource = str(one.get("ScalableDimension")), str(one.get("ResourceId"))
        begins = _RESOURCES.get(dimension)
        if begins is None or not resource.startswith(begins):
            said = f"{resource} is nothing that {dimension} counts"
            yield Problem("ScalableDimension", said, "name the dimension of the resource")
    for policy in world.plan.of("PutScalingPolicy"):
        dimension, metric = str(policy.get("ScalableDimension")), _metric(policy)
        if metric and metric not in METRICS.get(dimension, {}).values():
            allowed = ", ".join(METRICS.get(dimension, {}).values())
            said = f"{metric} is no metric of {dimension}; allowed: {allowed}"
            yield Problem("PredefinedMetricType", said, "take one of them")
        if (policy.get("ResourceId"), policy.get("ScalableDimension")) not in registered:
            yield Problem("PutScalingPolicy", f"{policy.get('ResourceId')} is not registered", "register it first")


@rule(
    "H16",
    ADVICE,
    "a policy of invocations stands beside one of concurrency",
    why="when containers crash, concurrency falls to nothing, and capacity is taken away",
    source="AWS post on faster auto scaling; docs of high-resolution metrics",
)
def pair(world: World) -> Problems:
    by_resource: dict[str, set[str]] = {}
    for policy in world.plan.of("PutScalingPolicy"):
        by_resource.setdefault(str(policy.get("ResourceId")), set()).add(_metric(policy))
    for resource, metrics in by_resource.items():
        if any("HighResolution" in metric for metric in metrics) and not any("Invocations" in one for one in metrics):
            yield Problem(resource, "scales by concurrency alone", "set autoscaling.invocations_per_minute, too")


@rule(
    "H17",
    ADVICE,
    "requests go to the instance that has the fewest",
    why="at random, some instances queue while others wait: p99 rises by 4 to 33 percent",
    source="AWS post on routing strategies",
)
def routing(world: World) -> Problems:
    for variant in world.plan.variants:
        strategy = variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM")
        if strategy == "RANDOM" and "ServerlessConfig" not in variant:
            yield Problem("RoutingStrategy", "is RANDOM", "set routing_strategy: LEAST_OUTSTANDING_REQUESTS")


@rule(
    "H13",
    ERROR,
    "a load test keeps within the Inference Recommender's limits",
    why="the API refuses it; its shapes do not tell",
    source="SageMaker API, RecommendationJobStoppingConditions and Phase",
)
def load_test(world: World) -> Problems:
    for job in world.plan.of("CreateInferenceRecommendationsJob"):
        most = job.get("StoppingConditions", {}).get("MaxInvocations")
        if isinstance(most, int) and not 1 <= most <= _INVOCATIONS_LIMIT:
            said = f"is {most} a minute; allowed: 1 to {_INVOCATIONS_LIMIT}"
            yield Problem("MaxInvocations", said, "change it")
        traffic = job.get("InputConfig", {}).get("TrafficPattern", {})
        for phase in traffic.get("Phases", ()):
            for key, (low, high) in _PHASE_LIMITS.items():
                if isinstance(phase.get(key), int) and not low <= phase[key] <= high:
                    yield Problem(key, f"is {phase[key]}; allowed: {low} to {high}", "change it")
        duration = job.get("InputConfig", {}).get("JobDurationInSeconds")
        planned = sum(phase.get("DurationInSeconds", 0) for phase in traffic.get("Phases", ()))
        if isinstance(duration, int) and duration > _LONGEST_JOB_SECONDS:
            yield Problem("JobDurationInSeconds", f"is {duration}; at most {_LONGEST_JOB_SECONDS}", "shorten it")
        if isinstance(duration, int) and planned > duration:
            said = f"is {duration}; the phases take {planned}"
            yield Problem("JobDurationInSeconds", said, "raise duration_seconds, or shorten the phases")


@rule(
    "H23",
    ERROR,
    "the requests that a transform job sends at once have at most 100 MB together",
    why="the API refuses it; its shapes do not tell",
    source="SageMaker API, MaxPayloadInMB",
)
def transform(world: World) -> Problems:
    for job in world.plan.of("CreateTransformJob"):
        size, at_once = job.get("MaxPayloadInMB", 6), job.get("MaxConcurrentTransforms", 1)
        if isinstance(size, int) and isinstance(at_once, int) and size * at_once > _TRANSFORM_MB:
            said = f"{at_once} times {size} MB; at most {_TRANSFORM_MB} MB"
            yield Problem("MaxConcurrentTransforms", said, "lower transform.max_concurrent or max_payload_mb")
