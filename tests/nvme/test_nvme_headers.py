"""`lab.nvme` against libnvme's headers: sizes, offsets, bits and numbers as static assertions that gcc checks.

The tables name what each declaration of ours is called there. A field of ours that is missing in libnvme, and a member of
libnvme that is missing here, must be named in a table too: nothing is left out silently.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.nvme import async_events, commands, features, identify, logs, ranges, registers
from lab.nvme.fields import Register, Structure
from lab.nvme.status import Status

if TYPE_CHECKING:
    from tests.nvme.conftest import SecondOpinion

Names = dict[str, str | None]
"""Our field to their member; None: they have none. Without an entry it is the same name in lower case."""

STRUCTURES: dict[type[Structure], tuple[str, Names]] = {
    identify.PowerState: (
        "nvme_id_psd",
        {"MXPS": "flags", "NOPS": "flags", "APW": "apws", "APS": "apws"},
    ),
    identify.IdentifyController: ("nvme_id_ctrl", {}),
    identify.LbaFormat: ("nvme_lbaf", {"LBADS": "ds"}),
    identify.IdentifyNamespace: ("nvme_id_ns", {"VS": None}),
    identify.NamespaceManagementData: ("nvme_id_ns", {}),
    identify.IndependentNamespace: ("nvme_id_independent_id_ns", {}),
    identify.IdentifyControllerNvm: ("nvme_id_ctrl_nvm", {}),
    identify.IdentifyNamespaceNvm: ("nvme_nvm_id_ns", {}),
    identify.NamespaceList: ("nvme_ns_list", {"NSID": "ns"}),
    identify.ControllerList: ("nvme_ctrl_list", {"CNTLID": "identifier"}),
    identify.NamespaceDescriptor: ("nvme_ns_id_desc", {}),
    identify.NvmSet: ("nvme_nvmset_attr", {}),
    identify.NvmSetList: ("nvme_id_nvmset_list", {"NUM": "nid", "ENTRY": "ent"}),
    identify.PrimaryController: ("nvme_primary_ctrl_cap", {}),
    identify.SecondaryController: ("nvme_secondary_ctrl", {}),
    identify.SecondaryControllerList: ("nvme_secondary_ctrl_list", {"ENTRY": "sc_entry"}),
    identify.Granularity: ("nvme_id_ns_granularity_desc", {}),
    identify.NamespaceGranularityList: ("nvme_id_ns_granularity_list", {"NUM": "num_descriptors"}),
    identify.UuidEntry: ("nvme_id_uuid_list_entry", {"ASSOCIATION": "header"}),
    identify.UuidList: ("nvme_id_uuid_list", {}),
    identify.Domain: (
        "nvme_id_domain_attr",
        {
            "DOMAINID": "dom_id",
            "CAPACITY": "dom_cap",
            "UNALLOCATED": "unalloc_dom_cap",
            "LARGEST_GROUP": "max_egrp_dom_cap",
        },
    ),
    identify.DomainList: ("nvme_id_domain_list", {"ENTRY": "domain_attr"}),
    identify.EnduranceGroupList: ("nvme_id_endurance_group_list", {"ENDGID": "identifier"}),
    identify.IoCommandSets: ("nvme_id_iocs", {"COMBINATION": "iocsc"}),
    logs.SupportedLogPages: ("nvme_supported_log_pages", {"LID": "lid_support"}),
    logs.ErrorInformation: (
        "nvme_error_log_page",
        {
            "CID": "cmdid",
            "P": "status_field",
            "STATUS": "status_field",
            "PEL": "parm_error_location",
            "PEL_BYTE": "parm_error_location",
            "PEL_BIT": "parm_error_location",
            "VSIA": "vs",
            "CSINFO": "cs",
            "TTSI": "trtype_spec_info",
        },
    ),
    logs.Smart: (
        "nvme_smart_log",
        {
            "AVAILABLE_SPARE": "avail_spare",
            "SPARE_THRESHOLD": "spare_thresh",
            "PERCENTAGE_USED": "percent_used",
            "ENDURANCE_WARNING": "endu_grp_crit_warn_sumry",
            "BUSY_TIME": "ctrl_busy_time",
            "ERROR_LOG_ENTRIES": "num_err_log_entries",
            "WARNING_TIME": "warning_temp_time",
            "CRITICAL_TIME": "critical_comp_time",
            **{f"TEMPERATURE_SENSOR_{n + 1}": f"temp_sensor[{n}]" for n in range(8)},
            "TMT1_TRANSITIONS": "thm_temp1_trans_count",
            "TMT2_TRANSITIONS": "thm_temp2_trans_count",
            "TMT1_TIME": "thm_temp1_total_time",
            "TMT2_TIME": "thm_temp2_total_time",
        },
    ),
    logs.FirmwareSlots: (
        "nvme_firmware_slot",
        {"ACTIVE": "afi", "NEXT": "afi", **{f"FRS{n + 1}": f"frs[{n}]" for n in range(7)}},
    ),
    logs.CommandsSupported: ("nvme_cmd_effects_log", {}),
    logs.SelfTestResult: (
        "nvme_st_result",
        {"RESULT": "dsts", "CODE": "dsts", "SEGMENT": "seg", "VALID": "vdi"},
    ),
    logs.DeviceSelfTestLog: ("nvme_self_test_log", {"OPERATION": "current_operation"}),
    logs.Telemetry: (
        "nvme_telemetry_log",
        {
            "LID": "lpi",
            "HOST_GENERATION": "hostdgn",
            "AVAILABLE": "ctrlavail",
            "GENERATION": "ctrldgn",
            "REASON": "rsnident",
        },
    ),
    logs.EnduranceGroup: (
        "nvme_endurance_group_log",
        {
            "AVAILABLE_SPARE": "avl_spare",
            "SPARE_THRESHOLD": "avl_spare_threshold",
            "PERCENTAGE_USED": "percent_used",
            "DOMAINID": None,
            "HOST_READS": "host_read_cmds",
            "HOST_WRITES": "host_write_cmds",
            "MEDIA_ERRORS": "media_data_integrity_err",
            "ERROR_LOG_ENTRIES": "num_err_info_log_entries",
            "TEGCAP": None,
            "UEGCAP": None,
        },
    ),
    logs.Ana: ("nvme_ana_log", {"CHANGE_COUNT": "chgcnt", "GROUPS": "ngrps"}),
    logs.AnaGroup: ("nvme_ana_group_desc", {"CHANGE_COUNT": "chgcnt"}),
    logs.PersistentEventLog: (
        "nvme_persistent_event_log",
        {"TIMESTAMP": "ts", "GENERATION": "gen_number"},
    ),
    logs.PersistentEvent: (
        "nvme_persistent_event_entry",
        {"TYPE": "etype", "REVISION": "etype_rev", "TIMESTAMP": "ets", "PORTID": "pelpid"},
    ),
    logs.FeaturesSupported: ("nvme_fid_supported_effects_log", {"FID": "fid_support"}),
    logs.ReservationNotification: ("nvme_resv_notification_log", {"TYPE": "rnlpt", "AVAILABLE": "nalp"}),
    logs.SanitizeStatus: (
        "nvme_sanitize_log_page",
        {
            "STATUS": "sstat",
            "PASSES": "sstat",
            "GLOBAL_DATA_ERASED": "sstat",
            "OVERWRITE_TIME": "eto",
            "BLOCK_ERASE_TIME": "etbe",
            "CRYPTO_ERASE_TIME": "etce",
            "OVERWRITE_TIME_KEPT": "etond",
            "BLOCK_ERASE_TIME_KEPT": "etbend",
            "CRYPTO_ERASE_TIME_KEPT": "etcend",
        },
    ),
    features.LbaRange: ("nvme_lba_range_type_entry", {"OVERWRITEABLE": "attributes", "HIDDEN": "attributes"}),
    features.LbaRanges: ("nvme_lba_range_type", {}),
    features.ApstTable: ("nvme_feat_auto_pst", {"ENTRY": "apst_entry"}),
    features.HostMemoryBufferAttributes: ("nvme_host_mem_buf_attrs", {}),
    features.Timestamp: ("nvme_timestamp", {"SYNCH": "attr", "ORIGIN": "attr"}),
    features.PredictableLatencyConfig: ("nvme_plm_config", {"EVENTS": "ee"}),
    features.HostBehavior: ("nvme_feat_host_behavior", {"ETDAS": None, "LBAFEE": None}),
    ranges.DsmRange: ("nvme_dsm_range", {"LENGTH": "nlb"}),
    # libnvme has the application tag and its mask the other way round; QEMU's and SPDK's copy are as here.
    ranges.CopyRange: ("nvme_copy_range", {"ELBAT": "elbatm", "ELBATM": "elbat"}),
    ranges.CopyRangeWide: ("nvme_copy_range_f1", {"ELBT": "elbt", "ELBAT": "elbatm", "ELBATM": "elbat"}),
    ranges.LbaStatusDescriptor: ("nvme_lba_status_desc", {}),
    ranges.LbaStatus: ("nvme_lba_status", {}),
}

THEIRS_ALONE: dict[str, set[str]] = {
    "nvme_id_ns": {"lbstm", "vs"},  # the tag mask moved to the NVM command set's own structure
}
"""Members that only libnvme has."""

PARTIAL = {identify.NamespaceManagementData}
"""Declarations of a part of their structure."""

REGISTERS: dict[type[Register], tuple[str, Names]] = {
    identify.Cmic: (
        "NVME_CTRL_CMIC_MULTI_",
        {"MULTI_PORT": "PORT", "MULTI_CONTROLLER": "CTRL", "VIRTUAL_FUNCTION": "SRIOV", "ANA": "ANA_REPORTING"},
    ),
    identify.Oaes: (
        "NVME_CTRL_OAES_",
        {
            "NAMESPACE_ATTRIBUTE": "NA",
            "FIRMWARE_ACTIVATION": "FA",
            "ANA_CHANGE": "ANA",
            "PREDICTABLE_LATENCY": "PLEA",
            "LBA_STATUS": "LBAS",
            "ENDURANCE_GROUP": "EGE",
            "NORMAL_SUBSYSTEM_SHUTDOWN": "NS",
            "ZONE_DESCRIPTOR": "ZD",
            "DISCOVERY_LOG": "DL",
        },
    ),
    identify.Ctratt: (
        "NVME_CTRL_CTRATT_",
        {
            "HOST_ID_128": "128_ID",
            "NON_OPERATIONAL_PERMISSIVE": "NON_OP_PSP",
            "READ_RECOVERY_LEVELS": "READ_RECV_LVLS",
            "PREDICTABLE_LATENCY": "PREDICTABLE_LAT",
            "TRAFFIC_KEEP_ALIVE": "TBKAS",
            "MULTI_DOMAIN": "MDS",
            "FIXED_CAPACITY": "FIXED_CAP",
            "VARIABLE_CAPACITY": "VARIABLE_CAP",
            "DELETE_ENDURANCE_GROUP": "DEL_ENDURANCE_GROUPS",
            "DELETE_NVM_SET": "DEL_NVM_SETS",
            "EXTENDED_LBA_FORMATS": "ELBAS",
        },
    ),
    identify.Oacs: (
        "NVME_CTRL_OACS_",
        {
            "FIRMWARE": "FW",
            "NAMESPACE_MANAGEMENT": "NS_MGMT",
            "VIRTUALIZATION": "VIRT_MGMT",
            "DOORBELL_BUFFER": "DBBUF_CFG",
            "GET_LBA_STATUS": "LBA_STATUS",
            "LOCKDOWN": "CMD_FEAT_LD",
        },
    ),
    identify.Frmw: (
        "NVME_CTRL_FRMW_",
        {
            "SLOT_1_READ_ONLY": "1ST_RO",
            "SLOTS": None,  # their mask is not shifted to its place
            "ACTIVATE_WITHOUT_RESET": "FW_ACT_NO_RESET",
            "OVERLAP_DETECTION": "MP_UP_DETECTION",
        },
    ),
    identify.Lpa: (
        "NVME_CTRL_LPA_",
        {
            "SMART_PER_NAMESPACE": "SMART_PER_NS",
            "COMMANDS_SUPPORTED": "CMD_EFFECTS",
            "EXTENDED_DATA": "EXTENDED",
            "PERSISTENT_EVENT": "PERSETENT_EVENT",
            "SUPPORTED_LOG_PAGES": "LI0_LI5_LI12_LI13",
            "TELEMETRY_AREA_4": "DA4_TELEMETRY",
        },
    ),
    identify.Rpmbs: ("NVME_CTRL_RPMBS_", {"UNITS": "NR_UNITS", "AUTHENTICATION": "AUTH_METHOD"}),
    identify.Sanicap: (
        "NVME_CTRL_SANICAP_",
        {
            "CRYPTO_ERASE": "CES",
            "BLOCK_ERASE": "BES",
            "OVERWRITE": "OWS",
            "NO_DEALLOCATE_INHIBITED": "NDI",
            "NO_DEALLOCATE_MODIFIES_MEDIA": "NODMMAS",
        },
    ),
    identify.Anacap: (
        "NVME_CTRL_ANACAP_",
        {
            "OPTIMIZED": "OPT",
            "NON_OPTIMIZED": "NON_OPT",
            "GROUP_ID_FIXED": "GRPID_NO_CHG",
            "GROUP_ID_MANAGED": "GRPID_MGMT",
        },
    ),
    identify.EntrySize: ("NVME_CTRL_SQES_", {"REQUIRED": "MIN", "MAXIMUM": "MAX"}),
    identify.Oncs: ("NVME_CTRL_ONCS_", {"DATASET_MANAGEMENT": "DSM", "SAVE_AND_SELECT": "SAVE_FEATURES"}),
    identify.Fna: (
        "NVME_CTRL_FNA_",
        {"FORMAT_ALL": "FMT_ALL_NAMESPACES", "ERASE_ALL": "SEC_ALL_NAMESPACES", "NO_BROADCAST": "NSID_FFFFFFFF"},
    ),
    identify.Vwc: ("NVME_CTRL_VWC_", {"FLUSH_BROADCAST": "FLUSH"}),
    identify.Nwpc: (
        "NVME_CTRL_NWPC_",
        {"UNTIL_POWER_CYCLE": "WRITE_PROTECT_POWER_CYCLE", "PERMANENT": "WRITE_PROTECT_PERMANENT"},
    ),
    identify.Sgls: (
        "NVME_CTRL_SGLS_",
        {"SUPPORT": "SUPPORTED", "THRESHOLD": None, "OFFSET_ADDRESS": "OFFSET", "TRANSPORT": "TPORT"},
    ),
    identify.Nsfeat: (
        "NVME_NS_FEAT_",
        {
            "THIN_PROVISIONING": "THIN",
            "ATOMICITY": "NATOMIC",
            "DEALLOCATED_ERROR": "DULBE",
            "ID_NEVER_REUSED": "ID_REUSE",
            "OPTIMAL_PERFORMANCE": "IO_OPT",
        },
    ),
    identify.Flbas: ("NVME_NS_FLBAS_", {"LOW": "LOWER_MASK", "EXTENDED": "META_EXT", "HIGH": "HIGHER_MASK"}),
    identify.ExtendedLbaFormat: ("NVME_NVM_ELBAF_", {"STS": "STS_MASK", "PIF": "PIF_MASK"}),
    identify.Mc: ("NVME_NS_MC_", {}),
    identify.Dpc: ("NVME_NS_DPC_PI_", {"TYPE_1": "TYPE1", "TYPE_2": "TYPE2", "TYPE_3": "TYPE3"}),
    identify.Dps: ("NVME_NS_DPS_PI_", {"TYPE": "MASK"}),
    identify.Nmic: ("NVME_NS_NMIC_", {}),
    identify.Rescap: (
        "NVME_NS_RESCAP_",
        {
            "PERSIST": "PTPL",
            "WRITE_EXCLUSIVE": "WE",
            "EXCLUSIVE_ACCESS": "EA",
            "WRITE_EXCLUSIVE_REGISTRANTS": "WERO",
            "EXCLUSIVE_ACCESS_REGISTRANTS": "EARO",
            "WRITE_EXCLUSIVE_ALL": "WEAR",
            "EXCLUSIVE_ACCESS_ALL": "EAAR",
            "IGNORE_EXISTING_KEY": "IEK_13",
        },
    ),
    identify.Fpi: ("NVME_NS_FPI_", {}),
    identify.Dlfeat: ("NVME_NS_DLFEAT_", {"READ": "RB", "GUARD_CRC": "CRC_GUARD"}),
    identify.Nsattr: ("NVME_NS_NSATTR_", {}),
    logs.CriticalWarning: (
        "NVME_SMART_CRIT_",
        {"READ_ONLY": "MEDIA", "BACKUP_FAILED": "VOLATILE_MEMORY", "PMR_UNRELIABLE": "PMR_RO"},
    ),
    logs.CommandEffects: ("NVME_CMD_EFFECTS_", {"CSE": None, "UUID": "UUID_SEL", "CSP": None}),
    logs.FeatureEffects: ("NVME_FID_SUPPORTED_EFFECTS_", {"UUID": "UUID_SEL", "FSP": None}),
    features.AsyncEventConfig: (
        "NVME_FEATURE_AENCFG_NOTICE_",
        {
            "SMART": None,
            "NAMESPACE_ATTRIBUTE": "NAMESPACE_ATTRIBUTES",
            "TELEMETRY": "TELEMETRY_LOG",
            "PREDICTABLE_LATENCY": "PL_EVENT",
            "ENDURANCE_GROUP": "EG_EVENT",
            "NORMAL_SUBSYSTEM_SHUTDOWN": None,
            "ZONE_DESCRIPTOR": None,
            "DISCOVERY_LOG": "DISCOVERY_CHANGE",
        },
    ),
}
"""Registers whose bits are constants there: their prefix, and our field to the rest (as written when not named)."""

SHIFTED: dict[type[Register], tuple[str, Names]] = {
    registers.CAP: ("NVME_CAP_", {"NSSRS": "NSSRC", "CPS": None, "NSSS": None, "CRMS": None}),
    registers.VS: ("NVME_VS_", {}),
    registers.CC: ("NVME_CC_", {}),
    registers.CSTS: ("NVME_CSTS_", {"ST": None}),
    registers.AQA: ("NVME_AQA_", {}),
    registers.CMBLOC: ("NVME_CMBLOC_", {"CDPMLS": "CDPLMS"}),
    registers.CMBSZ: ("NVME_CMBSZ_", {}),
    registers.BPINFO: ("NVME_BPINFO_", {}),
    registers.BPRSEL: ("NVME_BPRSEL_", {"BPROF": None}),  # 12 bits there; Base 2.0 has 20
    registers.CMBMSC: ("NVME_CMBMSC_", {"CBA": None}),  # no constant expression
    registers.CMBSTS: ("NVME_CMBSTS_", {}),
    registers.CRTO: ("NVME_CRTO_", {"CRWMT": None, "CRIMT": None}),  # their masks are not shifted down
    registers.PMRCAP: ("NVME_PMRCAP_", {"PMRWBM": "PMRWMB"}),
    registers.PMRCTL: ("NVME_PMRCTL_", {}),
    registers.PMRSTS: ("NVME_PMRSTS_", {}),
    registers.PMREBS: ("NVME_PMREBS_", {}),
    registers.PMRSWTP: ("NVME_PMRSWTP_", {}),
    features.Arbitration: ("NVME_FEAT_ARBITRATION_", {"AB": "BURST"}),
    features.PowerManagement: ("NVME_FEAT_PWRMGMT_", {}),
    features.LbaRangeType: ("NVME_FEAT_LBAR_", {"NUM": "NR"}),
    features.TemperatureThreshold: ("NVME_FEAT_TT_", {}),
    features.ErrorRecovery: ("NVME_FEAT_ERROR_RECOVERY_", {}),
    features.VolatileWriteCache: ("NVME_FEAT_VWC_", {}),
    features.NumberOfQueues: ("NVME_FEAT_NRQS_", {"NSQA": "NSQR", "NCQA": "NCQR"}),
    features.InterruptCoalescing: ("NVME_FEAT_IRQC_", {}),
    features.InterruptVectorConfig: ("NVME_FEAT_ICFG_", {}),
    features.WriteAtomicity: ("NVME_FEAT_WA_", {}),
    features.AutonomousPowerStateTransition: ("NVME_FEAT_APST_", {}),
    features.ApstEntry: ("NVME_APST_ENTRY_", {}),
    features.HostMemoryBuffer: ("NVME_FEAT_HMEM_", {"MR": None}),
    features.HostControlledThermalManagement: ("NVME_FEAT_HCTM_", {}),
    features.NonOperationalPowerState: ("NVME_FEAT_NOPS_", {}),
    features.LbaStatusInterval: ("NVME_FEAT_LBAS_", {}),
    features.SanitizeConfig: ("NVME_FEAT_SC_", {}),
    features.EnduranceGroupEventConfig: ("NVME_FEAT_EG_", {}),
    features.IoCommandSetProfile: ("NVME_FEAT_IOCSP_", {"IOCSCI": None}),  # 8 bits there; Base 2.0 has 9
    features.SoftwareProgressMarker: ("NVME_FEAT_SPM_", {}),
    features.HostIdentifier: ("NVME_FEAT_HOSTID_", {}),
    features.ReservationNotificationMask: ("NVME_FEAT_RM_", {}),
    features.ReservationPersistence: ("NVME_FEAT_RP_", {}),
    features.NamespaceWriteProtection: ("NVME_FEAT_WP_", {}),
}
"""Registers whose fields are a SHIFT and a MASK there."""

ENUMS: dict[type[IntEnum], tuple[str, str, Names]] = {
    identify.Cns: (
        "nvme_identify_cns",
        "NVME_IDENTIFY_CNS_",
        {
            "NAMESPACE": "NS",
            "CONTROLLER": "CTRL",
            "ACTIVE_NAMESPACES": "NS_ACTIVE_LIST",
            "NAMESPACE_DESCRIPTORS": "NS_DESC_LIST",
            "NVM_SET_LIST": "NVMSET_LIST",
            "CSI_NAMESPACE": "CSI_NS",
            "CSI_CONTROLLER": "CSI_CTRL",
            "CSI_ACTIVE_NAMESPACES": "CSI_NS_ACTIVE_LIST",
            "INDEPENDENT_NAMESPACE": "CSI_INDEPENDENT_ID_NS",
            "USER_DATA_FORMAT": "NS_USER_DATA_FORMAT",
            "CSI_USER_DATA_FORMAT": "CSI_NS_USER_DATA_FORMAT",
            "ALLOCATED_NAMESPACES": "ALLOCATED_NS_LIST",
            "ALLOCATED_NAMESPACE": "ALLOCATED_NS",
            "ATTACHED_CONTROLLERS": "NS_CTRL_LIST",
            "CONTROLLERS": "CTRL_LIST",
            "PRIMARY_CONTROLLER": "PRIMARY_CTRL_CAP",
            "SECONDARY_CONTROLLERS": "SECONDARY_CTRL_LIST",
            "NAMESPACE_GRANULARITY": "NS_GRANULARITY",
            "ENDURANCE_GROUPS": "ENDURANCE_GROUP_ID",
            "CSI_ALLOCATED_NAMESPACES": "CSI_ALLOCATED_NS_LIST",
            "CSI_ALLOCATED_NAMESPACE": "CSI_ID_NS_DATA_STRUCTURE",
            "IO_COMMAND_SETS": "COMMAND_SET_STRUCTURE",
        },
    ),
    identify.Nidt: ("nvme_ns_id_desc_nidt", "NVME_NIDT_", {}),
    logs.Lid: (
        "nvme_cmd_get_log_lid",
        "NVME_LOG_LID_",
        {
            "ERROR_INFORMATION": "ERROR",
            "FIRMWARE_SLOT": "FW_SLOT",
            "CHANGED_NAMESPACES": "CHANGED_NS",
            "COMMANDS_SUPPORTED": "CMD_EFFECTS",
            "TELEMETRY_CONTROLLER": "TELEMETRY_CTRL",
            "PREDICTABLE_LATENCY_NVM_SET": "PREDICTABLE_LAT_NVMSET",
            "PREDICTABLE_LATENCY_AGGREGATE": "PREDICTABLE_LAT_AGG",
            "ENDURANCE_GROUP_AGGREGATE": "ENDURANCE_GRP_EVT",
            "CAPACITY_CONFIGURATIONS": "SUPPORTED_CAP_CONFIG_LIST",
            "FEATURES_SUPPORTED": "FID_SUPPORTED_EFFECTS",
            "NVME_MI_COMMANDS_SUPPORTED": "MI_CMD_SUPPORTED_EFFECTS",
            "LOCKDOWN": None,
            "ROTATIONAL_MEDIA": None,
            "DISCOVERY": "DISCOVER",
            "RESERVATION_NOTIFICATION": "RESERVATION",
            "SANITIZE_STATUS": "SANITIZE",
            "CHANGED_ZONES": "ZNS_CHANGED_ZONES",
        },
    ),
    features.Fid: (
        "nvme_features_id",
        "NVME_FEAT_FID_",
        {
            "POWER_MANAGEMENT": "POWER_MGMT",
            "LBA_RANGE_TYPE": "LBA_RANGE",
            "TEMPERATURE_THRESHOLD": "TEMP_THRESH",
            "ERROR_RECOVERY": "ERR_RECOVERY",
            "VOLATILE_WRITE_CACHE": "VOLATILE_WC",
            "NUMBER_OF_QUEUES": "NUM_QUEUES",
            "INTERRUPT_COALESCING": "IRQ_COALESCE",
            "INTERRUPT_VECTOR_CONFIG": "IRQ_CONFIG",
            "WRITE_ATOMICITY": "WRITE_ATOMIC",
            "ASYNC_EVENT_CONFIG": "ASYNC_EVENT",
            "AUTONOMOUS_POWER_STATE_TRANSITION": "AUTO_PST",
            "HOST_MEMORY_BUFFER": "HOST_MEM_BUF",
            "KEEP_ALIVE_TIMER": "KATO",
            "HOST_CONTROLLED_THERMAL_MANAGEMENT": "HCTM",
            "NON_OPERATIONAL_POWER_STATE": "NOPSC",
            "READ_RECOVERY_LEVEL": "RRL",
            "PREDICTABLE_LATENCY_CONFIG": "PLM_CONFIG",
            "PREDICTABLE_LATENCY_WINDOW": "PLM_WINDOW",
            "LBA_STATUS_INTERVAL": "LBA_STS_INTERVAL",
            "HOST_BEHAVIOR_SUPPORT": "HOST_BEHAVIOR",
            "SANITIZE_CONFIG": "SANITIZE",
            "ENDURANCE_GROUP_EVENT_CONFIG": "ENDURANCE_EVT_CFG",
            "IO_COMMAND_SET_PROFILE": "IOCS_PROFILE",
            "ENHANCED_CONTROLLER_METADATA": "ENH_CTRL_METADATA",
            "CONTROLLER_METADATA": "CTRL_METADATA",
            "NAMESPACE_METADATA": "NS_METADATA",
            "SOFTWARE_PROGRESS_MARKER": "SW_PROGRESS",
            "HOST_IDENTIFIER": "HOST_ID",
            "RESERVATION_NOTIFICATION_MASK": "RESV_MASK",
            "RESERVATION_PERSISTENCE": "RESV_PERSIST",
            "NAMESPACE_WRITE_PROTECTION": "WRITE_PROTECT",
        },
    ),
    commands.Select: ("nvme_get_features_sel", "NVME_GET_FEATURES_SEL_", {"SUPPORTED_CAPABILITIES": "SUPPORTED"}),
    commands.Transfer: (
        "nvme_data_tfr",
        "NVME_DATA_TFR_",
        {
            "NONE": "NO_DATA_TFR",
            "TO_CONTROLLER": "HOST_TO_CTRL",
            "TO_HOST": "CTRL_TO_HOST",
            "BOTH": "BIDIRECTIONAL",
        },
    ),
    logs.AnaState: ("nvme_ana_state", "NVME_ANA_STATE_", {"NON_OPTIMIZED": "NONOPTIMIZED"}),
    async_events.EventType: (
        "nvme_ae_type",
        "NVME_AER_",
        {"IMMEDIATE": None, "ONE_SHOT": None, "IO_COMMAND_SET": "CSS", "VENDOR": "VS"},
    ),
    async_events.ErrorEvent: (
        "nvme_ae_info_error",
        "NVME_AER_ERROR_",
        {
            "INVALID_DOORBELL_REGISTER": "INVALID_DB_REG",
            "INVALID_DOORBELL_VALUE": "INVALID_DB_VAL",
            "DIAGNOSTIC_FAILURE": "DIAG_FAILURE",
            "FIRMWARE_LOAD_ERROR": "FW_IMAGE_LOAD_ERROR",
        },
    ),
    async_events.SmartEvent: (
        "nvme_ae_info_smart",
        "NVME_AER_SMART_",
        {
            "RELIABILITY": "SUBSYSTEM_RELIABILITY",
            "TEMPERATURE": "TEMPERATURE_THRESHOLD",
            "SPARE": "SPARE_THRESHOLD",
        },
    ),
    async_events.NoticeEvent: (
        "nvme_ae_info_notice",
        "NVME_AER_NOTICE_",
        {
            "NAMESPACE_ATTRIBUTE_CHANGED": "NS_CHANGED",
            "FIRMWARE_ACTIVATION_STARTING": "FW_ACT_STARTING",
            "TELEMETRY_LOG_CHANGED": "TELEMETRY",
            "ANA_CHANGE": "ANA",
            "PREDICTABLE_LATENCY_CHANGE": "PL_EVENT",
            "ENDURANCE_GROUP_CHANGE": "EG_EVENT",
            "DISCOVERY_LOG_CHANGE": "DISC_CHANGED",
        },
    ),
    async_events.IoCommandSetEvent: (
        "nvme_ae_info_css_nvm",
        "NVME_AER_CSS_NVM_",
        {
            "RESERVATION_LOG": "RESERVATION",
            "SANITIZE_UNEXPECTED_DEALLOCATION": "UNEXPECTED_SANITIZE_DEALLOC",
        },
    ),
}

NOT_OURS = re.compile(r"FDP|_PLEL_|_HOST_DISC|_AVE_|_PULL_MODEL")
"""Constants of later revisions of the specification, or of fabrics."""

OPCODES: dict[str, type[commands.Command]] = {
    "nvme_admin_delete_sq": commands.DeleteIoSq,
    "nvme_admin_create_sq": commands.CreateIoSq,
    "nvme_admin_get_log_page": commands.GetLogPage,
    "nvme_admin_delete_cq": commands.DeleteIoCq,
    "nvme_admin_create_cq": commands.CreateIoCq,
    "nvme_admin_identify": commands.Identify,
    "nvme_admin_abort_cmd": commands.Abort,
    "nvme_admin_set_features": commands.SetFeatures,
    "nvme_admin_get_features": commands.GetFeatures,
    "nvme_admin_async_event": commands.AsyncEventRequest,
    "nvme_admin_ns_mgmt": commands.NamespaceManagement,
    "nvme_admin_fw_commit": commands.FirmwareCommit,
    "nvme_admin_fw_download": commands.FirmwareDownload,
    "nvme_admin_dev_self_test": commands.DeviceSelfTest,
    "nvme_admin_ns_attach": commands.NamespaceAttachment,
    "nvme_admin_keep_alive": commands.KeepAlive,
    "nvme_admin_directive_send": commands.DirectiveSend,
    "nvme_admin_directive_recv": commands.DirectiveReceive,
    "nvme_admin_virtual_mgmt": commands.VirtualizationManagement,
    "nvme_admin_nvme_mi_send": commands.NvmeMiSend,
    "nvme_admin_nvme_mi_recv": commands.NvmeMiReceive,
    "nvme_admin_capacity_mgmt": commands.CapacityManagement,
    "nvme_admin_lockdown": commands.Lockdown,
    "nvme_admin_dbbuf": commands.DoorbellBufferConfig,
    "nvme_admin_format_nvm": commands.FormatNvm,
    "nvme_admin_security_send": commands.SecuritySend,
    "nvme_admin_security_recv": commands.SecurityReceive,
    "nvme_admin_sanitize_nvm": commands.Sanitize,
    "nvme_admin_get_lba_status": commands.GetLbaStatus,
    "nvme_zns_cmd_mgmt_send": commands.ZoneManagementSend,
    "nvme_zns_cmd_mgmt_recv": commands.ZoneManagementReceive,
    "nvme_zns_cmd_append": commands.ZoneAppend,
    "nvme_cmd_flush": commands.Flush,
    "nvme_cmd_write": commands.Write,
    "nvme_cmd_read": commands.Read,
    "nvme_cmd_write_uncor": commands.WriteUncorrectable,
    "nvme_cmd_compare": commands.Compare,
    "nvme_cmd_write_zeroes": commands.WriteZeroes,
    "nvme_cmd_dsm": commands.DatasetManagement,
    "nvme_cmd_verify": commands.Verify,
    "nvme_cmd_resv_register": commands.ReservationRegister,
    "nvme_cmd_resv_report": commands.ReservationReport,
    "nvme_cmd_resv_acquire": commands.ReservationAcquire,
    "nvme_cmd_resv_release": commands.ReservationRelease,
    "nvme_cmd_copy": commands.Copy,
}

OTHER_STATUS_TEXTS = {
    Status.IO_COMMAND_SET_NOT_SUPPORTED: "The I/O command set is not supported",
    Status.IO_COMMAND_SET_NOT_ENABLED: "The I/O command set is not enabled",
    Status.IO_COMMAND_SET_COMBINATION_REJECTED: "The I/O command set combination is rejected",
    Status.IO_COMMAND_SET_INVALID: "The I/O command set is invalid",
}
"""Where libnvme's words are not the specification's."""

STATUS_OF_FABRICS = {0x104, *range(0x12F, 0x135)}
"""Status codes that libnvme knows and PCIe has no use for; 104h is reserved in Base 2.0."""


def member(name: str, names: Names) -> str | None:
    return names.get(name, name.lower())


def structure_assertions() -> Iterator[tuple[str, str]]:
    for kind, (theirs, names) in STRUCTURES.items():
        assert not names.keys() - kind.FIELDS.keys(), f"the table names fields that {kind.__name__} has not"
        yield f"sizeof(struct {theirs}) == {kind.SIZE}", kind.__name__
        for name, field in kind.FIELDS.items():
            their_name = member(name, names)
            if their_name is None:
                continue
            place, text = f"offsetof(struct {theirs}, {their_name})", f"{kind.__name__}.{name}"
            size = f"sizeof(((struct {theirs} *)0)->{their_name})"
            if field.start % 8 == 0 and field.width % 8 == 0:
                yield f"{place} == {field.start // 8}", text
                if their_name != "status_field" and their_name != "parm_error_location":
                    yield f"{size} == {field.width // 8}", f"{text} (size)"
            else:
                first, last = field.start // 8, (field.start + field.width - 1) // 8
                yield f"{place} <= {first} && {last} < {place} + {size}", text


def register_assertions() -> Iterator[tuple[str, str]]:
    for kind, (prefix, names) in REGISTERS.items():
        for name, field in kind.FIELDS.items():
            rest = names.get(name, name)
            if rest is not None:
                value = f"{field.mask << field.start}ull"
                yield f"(unsigned)({prefix}{rest}) == {value}", f"{kind.__name__}.{name}"
    for kind, (prefix, names) in SHIFTED.items():
        for name, field in kind.FIELDS.items():
            rest = names.get(name, name)
            if rest is not None:
                yield f"{prefix}{rest}_SHIFT == {field.start}", f"{kind.__name__}.{name} (shift)"
                yield f"{prefix}{rest}_MASK == {field.mask}ull", f"{kind.__name__}.{name} (mask)"


def number_assertions() -> Iterator[tuple[str, str]]:
    for kind, (_, prefix, names) in ENUMS.items():
        for entry in kind:
            rest = names.get(entry.name, entry.name)
            if rest is not None:
                yield f"{prefix}{rest} == {entry.value}", f"{kind.__name__}.{entry.name}"
    for theirs, command in OPCODES.items():
        yield f"{theirs} == {command.OPCODE}", command.__name__
    for register in registers.REGISTERS + registers.OPTIONAL:
        yield f"NVME_REG_{register.__name__} == {register.OFFSET}", register.__name__


def program(assertions: Iterator[tuple[str, str]]) -> str:
    lines = ["#include <stddef.h>", "#include <stdint.h>", "#include <stdbool.h>", "#include <linux/types.h>"]
    lines += ["#include <nvme/types.h>"]
    lines += [f'_Static_assert({condition}, "{text}");' for condition, text in assertions]
    return "\n".join([*lines, ""])


ASSERTIONS = {
    "structures": structure_assertions,
    "registers": register_assertions,
    "numbers": number_assertions,
}


@pytest.mark.parametrize("kind", ASSERTIONS)
def test_gcc_agrees(kind: str, second_opinion: SecondOpinion, tmp_path: Path) -> None:
    source = program(ASSERTIONS[kind]())
    assert source.count("_Static_assert") > 100
    complaints = second_opinion.compile(source, tmp_path / "proof.o", "-c")
    assert not complaints, complaints


def test_gcc_would_disagree(second_opinion: SecondOpinion, tmp_path: Path) -> None:
    wrong = [("offsetof(struct nvme_id_ctrl, oacs) == 257", "the proof can fail")]
    assert "the proof can fail" in second_opinion.compile(program(iter(wrong)), tmp_path / "proof.o", "-c")


def header(second_opinion: SecondOpinion) -> str:
    text = (second_opinion.headers / "nvme/types.h").read_text()
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_no_member_is_left_out(second_opinion: SecondOpinion) -> None:
    text = header(second_opinion)
    for kind, (theirs, names) in STRUCTURES.items():
        if kind in PARTIAL:
            continue
        body = re.search(rf"^struct {theirs} \{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
        assert body, f"libnvme has no struct {theirs}"
        their_members = set(re.findall(r"(\w+)(?:\[\w*\])*;", body[1]))
        ours = {re.sub(r"\[\d+\]", "", known) for name in kind.FIELDS if (known := member(name, names))}
        left = {name for name in their_members - ours if not name.startswith("rsvd")}
        follows_the_head = {name for name in left if re.search(rf"\b{name}\[\];", body[1])}
        assert left - follows_the_head == THEIRS_ALONE.get(theirs, set()), theirs


def test_no_constant_is_left_out(second_opinion: SecondOpinion) -> None:
    text = header(second_opinion)
    for kind, (theirs, prefix, names) in ENUMS.items():
        body = re.search(rf"^enum {theirs} \{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
        assert body, f"libnvme has no enum {theirs}"
        known = {f"{prefix}{names.get(entry.name, entry.name)}" for entry in kind}
        left = {name for name in re.findall(r"^\s*(\w+)\s*=", body[1], re.MULTILINE) if not NOT_OURS.search(name)}
        assert left <= known, kind


def test_every_opcode_of_ours_is_proven() -> None:
    assert {*OPCODES.values()} == {kind for queue in commands.BY_OPCODE.values() for kind in queue.values()}


def test_status_codes_have_libnvmes_texts(second_opinion: SecondOpinion) -> None:
    source = (
        "import ctypes, json; text = ctypes.CDLL('libnvme.so.1').nvme_status_to_string;"
        "text.restype, text.argtypes = ctypes.c_char_p, [ctypes.c_int, ctypes.c_bool];"
        "print(json.dumps([text(code, False).decode() for code in range(0x400)]))"
    )
    ran = subprocess.run([sys.executable, "-c", source], env=second_opinion.environment, capture_output=True, check=True)
    known = {code: text.partition(":")[0] for code, text in enumerate(json.loads(ran.stdout))}
    for status in Status:
        assert known[status].casefold() == OTHER_STATUS_TEXTS.get(status, status.text).casefold()
    assert {code for code, text in known.items() if "unrecognized" not in text.lower()} - STATUS_OF_FABRICS == {*Status}
