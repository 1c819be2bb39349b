from __future__ import annotations

import pytest

from etl.init.names import amplitude_field, id_name, is_code, is_device_id, name_words, personal
from tests.examples import each_row


@pytest.mark.parametrize("name", ["customer_id", "customerId", "Customer ID", "CUSTOMER-ID"])
def test_words_do_not_depend_on_the_way_of_writing(name: str) -> None:
    assert name_words(name) == ("customer", "id")


@each_row(
    ("name", "meaning"),
    [
        ("user_id", "person"),
        ("UserID", "person"),
        ("Kunden-Nr", "person"),
        ("Kundennummer", "person"),
        ("Mitglieds-Nr.", "person"),
        ("id_client", "person"),
        ("n° client", "person"),
        ("numero_cliente", "person"),
        ("ID do cliente", "person"),
        ("会員番号", "person"),
        ("ユーザーID", "person"),
        ("código", "generic"),
        ("PLZ", None),
        ("code_postal", None),
        ("郵便番号", None),
        ("zip_code", None),
        ("Telefon", None),
        ("Umsatz", None),
        ("Kunde seit", None),
        ("uid", "person"),
        ("crm_contact_id", "person"),
        ("ID", "generic"),
        ("uuid", "generic"),
        ("username", "login"),
        ("order_id", "other"),
        ("paid", "other"),
        ("id_card_colour", None),
        ("account_number", None),
        ("plan", None),
        ("", None),
    ],
)
def test_ids_are_known_by_their_names(name: str, meaning: str | None) -> None:
    assert id_name(name) == meaning


@each_row(
    ("name", "kind"),
    [
        ("cc", "card"),
        ("Vorname", "name"),
        ("Nachname", "name"),
        ("prénom", "name"),
        ("Apellidos", "name"),
        ("氏名", "name"),
        ("correo electrónico", "mail"),
        ("メールアドレス", "mail"),
        ("Handynummer", "phone"),
        ("téléphone", "phone"),
        ("電話番号", "phone"),
        ("Geburtsdatum", "birth"),
        ("fecha de nacimiento", "birth"),
        ("生年月日", "birth"),
        ("Anschrift", "address"),
        ("plan_name", None),
        ("Credit Card", "card"),
        ("iban", "card"),
        ("user_password", "secret"),
        ("SSN", "national"),
        ("E-Mail", "mail"),
        ("backup_email", "mail"),
        ("mobile", "phone"),
        ("ip_address", "ip"),
        ("last_ip", "ip"),
        ("date_of_birth", "birth"),
        ("FirstName", "name"),
        ("street", "address"),
        ("shipping", None),
        ("accent", None),
        ("panel", None),
        ("emails_opened", None),
    ],
)
def test_personal_data_is_known_by_its_name(name: str, kind: str | None) -> None:
    assert personal(name) == kind


def test_fields_of_amplitude_are_found_whatever_the_case() -> None:
    assert amplitude_field("OS Name") == "os_name"
    assert amplitude_field("Country") == "country"
    assert amplitude_field("country_code") is None
    assert amplitude_field("user_id") is None


def test_devices_and_codes_are_told_apart_from_users_and_numbers() -> None:
    for name in ("IDFA", "Geräte-ID", "id_dispositivo", "端末ID"):
        assert is_device_id(name)
    assert not is_device_id("user_id")
    assert is_code("Zip Code")
    assert not is_code("zipper")
