"""`df.write.format("propsync")`: a Spark job's partitions are mapped and sent by its tasks.

    from etl.spark import PropsyncDataSource

    spark.dataSource.register(PropsyncDataSource)
    users = df.repartition(8, "user_id").sortWithinPartitions("user_id", "updated_at")
    users.write.format("propsync").option("job", "job.yml").mode("append").save()

It needs the extra `propsync[spark]`.
"""

from .data_source import PropsyncDataSource, PropsyncSparkError

__all__ = ["PropsyncDataSource", "PropsyncSparkError"]
