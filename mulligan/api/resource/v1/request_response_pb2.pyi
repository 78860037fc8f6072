import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from mulligan.api.common.v1 import common_pb2 as _common_pb2
from mulligan.api.resource.v1 import claim_pb2 as _claim_pb2
from mulligan.api.resource.v1 import provider_pb2 as _provider_pb2
from mulligan.api.resource.v1 import vocabulary_pb2 as _vocabulary_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DefineVocabularyRequest(_message.Message):
    __slots__ = ("request_id", "region", "vocabulary")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    vocabulary: _vocabulary_pb2.Vocabulary
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., vocabulary: _Optional[_Union[_vocabulary_pb2.Vocabulary, _Mapping]] = ...) -> None: ...

class DefineVocabularyResponse(_message.Message):
    __slots__ = ("vocabulary",)
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    vocabulary: _vocabulary_pb2.Vocabulary
    def __init__(self, vocabulary: _Optional[_Union[_vocabulary_pb2.Vocabulary, _Mapping]] = ...) -> None: ...

class GetVocabularyRequest(_message.Message):
    __slots__ = ("region",)
    REGION_FIELD_NUMBER: _ClassVar[int]
    region: str
    def __init__(self, region: _Optional[str] = ...) -> None: ...

class GetVocabularyResponse(_message.Message):
    __slots__ = ("vocabulary",)
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    vocabulary: _vocabulary_pb2.Vocabulary
    def __init__(self, vocabulary: _Optional[_Union[_vocabulary_pb2.Vocabulary, _Mapping]] = ...) -> None: ...

class DeleteVocabularyRequest(_message.Message):
    __slots__ = ("request_id", "region", "provider_types", "resource_types", "capabilities", "distance_types")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_TYPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_TYPES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    provider_types: _containers.RepeatedScalarFieldContainer[str]
    resource_types: _containers.RepeatedScalarFieldContainer[str]
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    distance_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., provider_types: _Optional[_Iterable[str]] = ..., resource_types: _Optional[_Iterable[str]] = ..., capabilities: _Optional[_Iterable[str]] = ..., distance_types: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteVocabularyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateProviderGroupRequest(_message.Message):
    __slots__ = ("request_id", "region", "name", "spans")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    name: str
    spans: _containers.RepeatedCompositeFieldContainer[_provider_pb2.Span]
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., name: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[_provider_pb2.Span, _Mapping]]] = ...) -> None: ...

class CreateProviderGroupResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: _provider_pb2.ProviderGroup
    def __init__(self, group: _Optional[_Union[_provider_pb2.ProviderGroup, _Mapping]] = ...) -> None: ...

class ListProviderGroupsRequest(_message.Message):
    __slots__ = ("region", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProviderGroupsResponse(_message.Message):
    __slots__ = ("groups", "next_page_token")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[_provider_pb2.ProviderGroup]
    next_page_token: str
    def __init__(self, groups: _Optional[_Iterable[_Union[_provider_pb2.ProviderGroup, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteProviderGroupRequest(_message.Message):
    __slots__ = ("request_id", "region", "id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    id: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class DeleteProviderGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateProviderRequest(_message.Message):
    __slots__ = ("request_id", "region", "name", "config")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    name: str
    config: _provider_pb2.ProviderConfig
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., name: _Optional[str] = ..., config: _Optional[_Union[_provider_pb2.ProviderConfig, _Mapping]] = ...) -> None: ...

class CreateProviderResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: _provider_pb2.Provider
    def __init__(self, provider: _Optional[_Union[_provider_pb2.Provider, _Mapping]] = ...) -> None: ...

class LoadProvidersRequest(_message.Message):
    __slots__ = ("request_id", "region", "name", "config")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    name: str
    config: _provider_pb2.ProviderConfig
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., name: _Optional[str] = ..., config: _Optional[_Union[_provider_pb2.ProviderConfig, _Mapping]] = ...) -> None: ...

class LoadProvidersResponse(_message.Message):
    __slots__ = ("received", "stored", "errors")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    received: int
    stored: int
    errors: _containers.RepeatedCompositeFieldContainer[RecordError]
    def __init__(self, received: _Optional[int] = ..., stored: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[RecordError, _Mapping]]] = ...) -> None: ...

class RecordError(_message.Message):
    __slots__ = ("index", "name", "reason", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    name: str
    reason: str
    message: str
    def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GetProviderRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetProviderResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: _provider_pb2.Provider
    def __init__(self, provider: _Optional[_Union[_provider_pb2.Provider, _Mapping]] = ...) -> None: ...

class ListProvidersRequest(_message.Message):
    __slots__ = ("region", "group", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    group: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., group: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProvidersResponse(_message.Message):
    __slots__ = ("providers", "next_page_token")
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    providers: _containers.RepeatedCompositeFieldContainer[_provider_pb2.Provider]
    next_page_token: str
    def __init__(self, providers: _Optional[_Iterable[_Union[_provider_pb2.Provider, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetInventoryRequest(_message.Message):
    __slots__ = ("request_id", "region", "id", "inventories", "etag")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    INVENTORIES_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    id: str
    inventories: _containers.RepeatedCompositeFieldContainer[_provider_pb2.Inventory]
    etag: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., id: _Optional[str] = ..., inventories: _Optional[_Iterable[_Union[_provider_pb2.Inventory, _Mapping]]] = ..., etag: _Optional[str] = ...) -> None: ...

class SetInventoryResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: _provider_pb2.Provider
    def __init__(self, provider: _Optional[_Union[_provider_pb2.Provider, _Mapping]] = ...) -> None: ...

class SetProviderStateRequest(_message.Message):
    __slots__ = ("request_id", "region", "id", "state", "reason", "etag")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    id: str
    state: _provider_pb2.ProviderState
    reason: str
    etag: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., id: _Optional[str] = ..., state: _Optional[_Union[_provider_pb2.ProviderState, str]] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class SetProviderStateResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: _provider_pb2.Provider
    def __init__(self, provider: _Optional[_Union[_provider_pb2.Provider, _Mapping]] = ...) -> None: ...

class DeleteProviderRequest(_message.Message):
    __slots__ = ("request_id", "region", "id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    id: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class DeleteProviderResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateClaimRequest(_message.Message):
    __slots__ = ("request_id", "region", "spec", "validate_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    spec: _claim_pb2.ClaimSpec
    validate_only: bool
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., spec: _Optional[_Union[_claim_pb2.ClaimSpec, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateClaimResponse(_message.Message):
    __slots__ = ("claim",)
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    claim: _claim_pb2.Claim
    def __init__(self, claim: _Optional[_Union[_claim_pb2.Claim, _Mapping]] = ...) -> None: ...

class ExplainClaimRequest(_message.Message):
    __slots__ = ("region", "spec")
    REGION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    region: str
    spec: _claim_pb2.ClaimSpec
    def __init__(self, region: _Optional[str] = ..., spec: _Optional[_Union[_claim_pb2.ClaimSpec, _Mapping]] = ...) -> None: ...

class ExplainClaimResponse(_message.Message):
    __slots__ = ("fits", "groups", "quota_shortages", "summary")
    FITS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    QUOTA_SHORTAGES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    fits: bool
    groups: _containers.RepeatedCompositeFieldContainer[_claim_pb2.GroupExplanation]
    quota_shortages: _containers.RepeatedCompositeFieldContainer[_claim_pb2.QuotaShortage]
    summary: str
    def __init__(self, fits: _Optional[bool] = ..., groups: _Optional[_Iterable[_Union[_claim_pb2.GroupExplanation, _Mapping]]] = ..., quota_shortages: _Optional[_Iterable[_Union[_claim_pb2.QuotaShortage, _Mapping]]] = ..., summary: _Optional[str] = ...) -> None: ...

class GetClaimRequest(_message.Message):
    __slots__ = ("region", "id")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    region: str
    id: str
    def __init__(self, region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class GetClaimResponse(_message.Message):
    __slots__ = ("claim",)
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    claim: _claim_pb2.Claim
    def __init__(self, claim: _Optional[_Union[_claim_pb2.Claim, _Mapping]] = ...) -> None: ...

class ListClaimsRequest(_message.Message):
    __slots__ = ("region", "window", "provider", "consumer", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    window: _common_pb2.Window
    provider: str
    consumer: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., window: _Optional[_Union[_common_pb2.Window, _Mapping]] = ..., provider: _Optional[str] = ..., consumer: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClaimsResponse(_message.Message):
    __slots__ = ("claims", "next_page_token")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.RepeatedCompositeFieldContainer[_claim_pb2.Claim]
    next_page_token: str
    def __init__(self, claims: _Optional[_Iterable[_Union[_claim_pb2.Claim, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReleaseClaimRequest(_message.Message):
    __slots__ = ("request_id", "region", "id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    id: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class ReleaseClaimResponse(_message.Message):
    __slots__ = ("claim",)
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    claim: _claim_pb2.Claim
    def __init__(self, claim: _Optional[_Union[_claim_pb2.Claim, _Mapping]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("region", "window", "provider", "project")
    REGION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    region: str
    window: _common_pb2.Window
    provider: str
    project: str
    def __init__(self, region: _Optional[str] = ..., window: _Optional[_Union[_common_pb2.Window, _Mapping]] = ..., provider: _Optional[str] = ..., project: _Optional[str] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("usages",)
    USAGES_FIELD_NUMBER: _ClassVar[int]
    usages: _containers.RepeatedCompositeFieldContainer[_claim_pb2.Usage]
    def __init__(self, usages: _Optional[_Iterable[_Union[_claim_pb2.Usage, _Mapping]]] = ...) -> None: ...

class SetQuotaRequest(_message.Message):
    __slots__ = ("request_id", "region", "quota")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    quota: _claim_pb2.Quota
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., quota: _Optional[_Union[_claim_pb2.Quota, _Mapping]] = ...) -> None: ...

class SetQuotaResponse(_message.Message):
    __slots__ = ("quota",)
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    quota: _claim_pb2.Quota
    def __init__(self, quota: _Optional[_Union[_claim_pb2.Quota, _Mapping]] = ...) -> None: ...

class ListQuotasRequest(_message.Message):
    __slots__ = ("region", "project", "page_size", "page_token")
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    region: str
    project: str
    page_size: int
    page_token: str
    def __init__(self, region: _Optional[str] = ..., project: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQuotasResponse(_message.Message):
    __slots__ = ("quotas", "next_page_token")
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    quotas: _containers.RepeatedCompositeFieldContainer[_claim_pb2.Quota]
    next_page_token: str
    def __init__(self, quotas: _Optional[_Iterable[_Union[_claim_pb2.Quota, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteQuotaRequest(_message.Message):
    __slots__ = ("request_id", "region", "project", "resource_type")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    region: str
    project: str
    resource_type: str
    def __init__(self, request_id: _Optional[str] = ..., region: _Optional[str] = ..., project: _Optional[str] = ..., resource_type: _Optional[str] = ...) -> None: ...

class DeleteQuotaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResourceConfigureRequest(_message.Message):
    __slots__ = ("request_id", "settings", "update_mask", "expires_after", "validate_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    settings: _common_pb2.ServiceSettings
    update_mask: _field_mask_pb2.FieldMask
    expires_after: _duration_pb2.Duration
    validate_only: bool
    def __init__(self, request_id: _Optional[str] = ..., settings: _Optional[_Union[_common_pb2.ServiceSettings, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., expires_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ResourceConfigureResponse(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _common_pb2.ServiceSettings
    def __init__(self, settings: _Optional[_Union[_common_pb2.ServiceSettings, _Mapping]] = ...) -> None: ...
