"""Layouts of data sets and exports of shops."""

import polars as pl

from replay.files.presets.preset import Join, Preset, select

_YOOCHOOSE = {"user_id": "session", "session_id": "session", "item_id": "item", "ts": "timestamp:iso"}
_YOOCHOOSE_LINE = r"^\d+,\d{4}-\d\d-\d\dT[\d:.]+Z,\d+,"
_RETAILROCKET_TYPES = "event:view=view,addtocart=cart,transaction=purchase"
_INSTACART_START_MS = 1_483_228_800_000  # 2017-01-01


def add_order_times(orders: pl.LazyFrame) -> pl.LazyFrame:
    """Add the column `ordered_ms`: days since the user's first order, and the hour of the order."""
    days = pl.col("days_since_prior_order").cast(pl.Float64, strict=False).fill_null(0)
    number = pl.col("order_number").cast(pl.Int64, strict=False)
    hours = 24 * days.cum_sum().over("user_id", order_by=number) + pl.col("order_hour_of_day").cast(pl.Int64)
    return orders.with_columns((_INSTACART_START_MS + 3_600_000 * hours).cast(pl.Int64).alias("ordered_ms"))


SHOP_PRESETS = (
    Preset(
        "amazon-reviews",
        "Amazon reviews 2023: …jsonl",
        "events",
        (
            select(
                type='"rating"', user_id="user_id", item_id="parent_asin,asin", value="rating", ts="timestamp:ms",
            ),
        ),
        recognized_by=("user_id", "asin", "rating", "timestamp"),
    ),
    Preset(
        "amazon-reviews-2018",
        "Amazon reviews 2014 and 2018: …json",
        "events",
        (select(type='"rating"', user_id="reviewerID", item_id="asin", value="overall", ts="unixReviewTime:s"),),
        recognized_by=("reviewerID", "asin", "overall", "unixReviewTime"),
    ),
    Preset(
        "amazon-ratings",
        "Amazon ratings 2023: …csv with user_id, parent_asin, rating, timestamp",
        "events",
        (select(type='"rating"', user_id="user_id", item_id="parent_asin", value="rating", ts="timestamp:ms"),),
        recognized_by=("user_id", "parent_asin", "rating", "timestamp"),
    ),
    Preset(
        "amazon-products",
        "Amazon products 2023: meta_….jsonl",
        "items",
        (
            select(
                item_id="parent_asin", title="title", categories="main_category&categories", price="price:money",
                creator="store",
            ),
        ),
        recognized_by=("parent_asin", "title", "main_category", "store"),
    ),
    Preset(
        "amazon-products-2018",
        "Amazon products 2014 and 2018: meta_….json",
        "items",
        (
            select(
                item_id="asin", title="title", categories="category,categories", price="price:money", creator="brand",
            ),
        ),
        recognized_by=("asin", "title", "brand"),
    ),
    Preset(
        "yoochoose-buys",
        "Yoochoose (RecSys Challenge 2015): yoochoose-buys.dat",
        "events",
        (select(type='"purchase"', value="price", quantity="quantity", **_YOOCHOOSE),),
        first_line=_YOOCHOOSE_LINE + r"\d+,\d+$",
        columns=("session", "timestamp", "item", "price", "quantity"),
    ),
    Preset(
        "yoochoose-clicks",
        "Yoochoose (RecSys Challenge 2015): yoochoose-clicks.dat",
        "events",
        (select(type='"click"', context__category="category", **_YOOCHOOSE),),
        first_line=_YOOCHOOSE_LINE + r"\w*$",
        columns=("session", "timestamp", "item", "category"),
    ),
    Preset(
        "retailrocket",
        "RetailRocket: events.csv",
        "events",
        (select(type=_RETAILROCKET_TYPES, user_id="visitorid", item_id="itemid", ts="timestamp:ms"),),
        recognized_by=("timestamp", "visitorid", "event", "itemid"),
    ),
    Preset(
        "instacart-orders",
        "Instacart: order_products__….csv, joined with orders.csv of the same folder",
        "events",
        (
            select(
                type='"purchase"', user_id="user_id", item_id="product_id", session_id="order_id", ts="ordered_ms:ms",
                context__hour="order_hour_of_day",
            ),
        ),
        recognized_by=("order_id", "product_id", "add_to_cart_order", "reordered"),
        join=Join("orders.csv", "order_id", add_order_times),
        note="orders have no dates: a user's first order is on 2017-01-01, the others days after it",
    ),
    Preset(
        "instacart-products",
        "Instacart: products.csv",
        "items",
        (select(item_id="product_id", title="product_name", categories="department_id&aisle_id"),),
        recognized_by=("product_id", "product_name", "aisle_id", "department_id"),
        note="aisles and departments are numbers here, for example department_id 13",
    ),
    Preset(
        "hm-transactions",
        "H&M: transactions_train.csv",
        "events",
        (
            select(
                type='"purchase"', user_id="customer_id", item_id="article_id", value="price", ts="t_dat:iso",
                context__sales_channel="sales_channel_id",
            ),
        ),
        recognized_by=("t_dat", "customer_id", "article_id", "price"),
    ),
    Preset(
        "hm-articles",
        "H&M: articles.csv",
        "items",
        (
            select(
                item_id="article_id", title="prod_name", group_id="product_code",
                categories="product_type_name&product_group_name&index_group_name&garment_group_name",
                color="colour_group_name",  # language: quoted
            ),
        ),
        recognized_by=("article_id", "prod_name", "product_type_name"),
    ),
    Preset(
        "hm-customers",
        "H&M: customers.csv",
        "users",
        (
            select(
                user_id="customer_id", age="age", club_member_status="club_member_status",
                fashion_news_frequency="fashion_news_frequency",
            ),
        ),
        recognized_by=("customer_id", "club_member_status", "age"),
    ),
)  # fmt: skip
