"""`df.write.format("propsync")`: the tasks of a Spark job map and send the rows of their partitions.

    from propsync.spark import PropsyncDataSource

    spark.dataSource.register(PropsyncDataSource)
    users = df.repartition(8, "user_id").sortWithinPartitions("user_id", "updated_at")
    users.write.format("propsync").option("job", "job.yml").mode("append").save()

It needs the extra `propsync[spark]`.
"""

from typing import TYPE_CHECKING

from .write_order import PropsyncSparkError

if TYPE_CHECKING:
    from .data_source import PropsyncDataSource

__all__ = ["PropsyncDataSource", "PropsyncSparkError"]


def __getattr__(name: str) -> object:
    if name == "PropsyncDataSource":  # the rest of the package works without pyspark
        from .data_source import PropsyncDataSource

        return PropsyncDataSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
