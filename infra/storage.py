"""What a workpool stores: the table of runs, the table of statistics, the bucket of large payloads.

They outlive the stack, but not a first deploy that fails. The tables can be restored to any second
of the last 35 days.
`infra/grants.py` says who may use them.
"""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

OPEN_INDEX = "open"


class Storage(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, encryption_key: kms.IKey | None
    ) -> None:
        super().__init__(scope, construct_id)
        encryption = dynamodb.TableEncryption.CUSTOMER_MANAGED if encryption_key else None

        # Written by submit, consumers and completion. The relay and the counters read its stream.
        self.runs = dynamodb.Table(
            self,
            "Runs",
            partition_key=_key("run"),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            time_to_live_attribute="expiresAt",
            point_in_time_recovery_specification=_POINT_IN_TIME,
            encryption=encryption,
            encryption_key=encryption_key,
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        # Sparse: a run leaves it when its completion is done. Sharded, because one hot index key
        # would throttle the table. Keys only, because whoever walks it reads the item anyway.
        self.runs.add_global_secondary_index(
            index_name=OPEN_INDEX,
            partition_key=_key("open"),
            sort_key=_key("enqueuedAt", dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )

        # The counters of each pool, its settings, and the cursors of the sweeper.
        self.stats = dynamodb.Table(
            self,
            "Stats",
            partition_key=_key("pk"),
            sort_key=_key("sk"),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expiresAt",
            point_in_time_recovery_specification=_POINT_IN_TIME,
            encryption=encryption,
            encryption_key=encryption_key,
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )

        # Written by whoever submits, and by consumers; emptied by the relay and the sweeper. No
        # object expires by its age: a run may be open for a year, or parked for longer.
        self.payloads = s3.Bucket(
            self,
            "Payloads",
            encryption=s3.BucketEncryption.KMS
            if encryption_key
            else s3.BucketEncryption.S3_MANAGED,
            encryption_key=encryption_key,
            # S3 then asks KMS once for many objects.
            bucket_key_enabled=True if encryption_key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=[
                s3.LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1))
            ],
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )


_POINT_IN_TIME = dynamodb.PointInTimeRecoverySpecification(point_in_time_recovery_enabled=True)


def _key(
    name: str, kind: dynamodb.AttributeType = dynamodb.AttributeType.STRING
) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=kind)
